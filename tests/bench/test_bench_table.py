"""The benchmark's table: judging, printing, keeping. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import load
from tests.bench.__main__ import IDS, main
from tests.bench.table import (
    BEGIN,
    END,
    PAGE,
    Row,
    as_json,
    as_text,
    figure,
    from_json,
    into_page,
    keep,
    median,
    percentile,
    ratio,
)

MET = Row("P1", "cold start", 2.5, "ms", 10.0, 0.25, "≤ 0.5 ×", met=True, note="p99 4 ms")
UNKNOWN = Row("P5-stream", "streamed", None, "/s", None, None, "≥ 8 ×", met=False, note="not served yet")
FIELDS = {"id", "what", "value", "unit", "baseline", "ratio", "budget", "met", "note"}


def test_medians_percentiles_and_ratios() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0
    assert percentile([1.0], 0.99) == 1.0
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(1.0, 0.0) == float("inf")
    with pytest.raises(ValueError, match="no values"):
        median([])


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.2468, "0.247"), (12.345, "12.3"), (318.4, "318"), (4290.6, "4,291")]
)
def test_figures_have_the_digits_that_matter(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_the_table_says_what_could_not_be_measured() -> None:
    lines = as_text([MET, UNKNOWN]).splitlines()
    assert lines[1].split() == ["P1", "cold", "start", "2.5", "ms", "10", "ms", "0.25", "≤", "0.5", "×", "yes"]
    assert lines[2].endswith("no")
    assert "None" not in lines[2]
    assert lines[3:] == ["P1: p99 4 ms", "P5-stream: not served yet"]


def test_json_keeps_every_field_and_reads_back() -> None:
    text = as_json([MET, UNKNOWN])
    assert [set(entry) for entry in json.loads(text)] == [FIELDS, FIELDS]
    assert json.loads(text)[1]["value"] is None
    assert from_json(text) == [MET, UNKNOWN]


def test_a_run_of_some_budgets_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    newer = Row("P1", "cold start", 3.0, "ms", 10.0, 0.3, "≤ 0.5 ×", met=True)
    keep([UNKNOWN, MET], path)
    assert [row.id for row in from_json(path.read_text())] == ["P1", "P5-stream"]
    keep([newer], path)
    assert from_json(path.read_text()) == [newer, UNKNOWN]
    path.write_text("{}")
    keep([MET], path)
    assert from_json(path.read_text()) == [MET]


def test_the_page_gets_the_table_between_its_markers() -> None:
    page = f"above\n{BEGIN}\nformer\n{END}\nbelow\n"
    made = into_page(page, [MET, UNKNOWN])
    assert made.startswith(f"above\n{BEGIN}\n| ")
    assert made.endswith(f"{END}\nbelow\n")
    assert "former" not in made
    assert "| P1 | cold start | 2.5 ms | 10 ms | 0.25 | ≤ 0.5 × | yes |" in made
    assert into_page(made, [MET, UNKNOWN]) == made
    with pytest.raises(ValueError, match="bench:begin"):
        into_page("no markers", [MET])


def test_the_documentation_has_the_markers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1


def test_an_unknown_budget_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "P4,P99"])
    assert f"no such budget: P99; there are {', '.join(IDS)}" in capsys.readouterr().err


def test_what_wrk_says_is_read_and_failures_are_not_counted_as_calls() -> None:
    said = "Running 2s test\n  1 threads and 16 connections\n  8590 requests in 2.01s, 2.66MB read\nRequests/sec: 4273.63\n"
    done = load.parse_wrk(said)
    assert (done.calls, done.seconds) == (8590, 2.01)
    assert round(done.rate) == 4274
    with pytest.raises(RuntimeError, match="Non-2xx or 3xx responses: 7"):
        load.parse_wrk(said + "  Non-2xx or 3xx responses: 7\n")
    with pytest.raises(RuntimeError, match="unable to connect"):
        load.parse_wrk("unable to connect")


def test_a_request_is_signed_whole_and_its_answer_measured() -> None:
    signed = load.sign("127.0.0.1:9001", "f", "KEY", "a-secret")
    raw = signed.raw()
    assert raw.startswith(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n")
    assert b"Authorization: AWS4-HMAC-SHA256 Credential=KEY/" in raw
    assert raw.endswith(b"\r\n\r\n" + load.EVENT)
    assert len(load.EVENT) == 300
    assert load.answer_size(b"HTTP/1.1 200 OK\r\nContent-Le") is None
    assert load.answer_size(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == 40
