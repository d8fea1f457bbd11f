"""Which lines of a JSON log are written."""

from __future__ import annotations

import pytest

from services.worker.core.log_levels import application_kept, system_kept


@pytest.mark.parametrize(
    ("kind", "status", "least", "kept"),
    [
        ("start", None, "INFO", True),
        ("start", None, "WARN", False),
        ("report", "success", "WARN", False),
        ("report", "error", "WARN", True),
        ("report", "timeout", "WARN", True),
        ("initReport", "success", "INFO", False),
        ("initReport", "success", "DEBUG", True),
        ("initReport", "error", "WARN", True),
        ("initStart", None, "", True),
    ],
)
def test_events_of_the_platform(kind: str, status: str | None, least: str, kept: bool) -> None:
    assert system_kept(kind, status, least) is kept


@pytest.mark.parametrize(
    ("line", "least", "kept"),
    [
        (b'{"level": "DEBUG", "message": "x"}', "INFO", False),
        (b'{"level": "DEBUG", "message": "x"}', "DEBUG", True),
        (b'{"level": "WARNING"}', "ERROR", False),
        (b'{"level": "warn"}', "WARN", True),
        (b'{"level": "CRITICAL"}', "FATAL", True),
        (b"printed", "INFO", True),
        (b"printed", "WARN", False),
        (b"{not json", "WARN", False),
        (b'{"message": "no level"}', "INFO", True),
        (b'{"level": 7}', "WARN", False),
        (b'[{"level": "ERROR"}]', "WARN", False),
        (b"printed", "TRACE", True),
        (b"printed", "", True),
    ],
)
def test_lines_of_functions(line: bytes, least: str, kept: bool) -> None:
    assert application_kept(line, least) is kept
