"""What may be asked of an event beyond AWS's API."""

from __future__ import annotations

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.event_options import EventOptions, event_options

NOW = 1_900_000_000.0  # 2030-03-17T17:46:40Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1900000060", NOW + 60),
        ("1900000060.25", NOW + 60.25),
        ("2030-03-17T17:47:40Z", NOW + 60),
        ("2030-03-17t17:47:40.500z", NOW + 60.5),
        ("2030-03-17T19:47:40+02:00", NOW + 60),
        ("1900003600", NOW + 3600),
        ("1900000000", None),
        ("0", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times_as_they_may_be_written(text: str, expected: float | None) -> None:
    """What has passed is as good as nothing."""
    assert event_options(None, text, "Event", NOW, 3600) == EventOptions(None, expected)


@pytest.mark.parametrize("token", ["t", "~" * 128, "{0}:/"])
def test_tokens_of_visible_ascii(token: str) -> None:
    assert event_options(token, None, "Event", NOW, 3600) == EventOptions(token)


@pytest.mark.parametrize(
    ("token", "not_before", "kind", "says"),
    [
        ("", None, "Event", "DedupToken must be 1 to 128"),
        ("x" * 129, None, "Event", "DedupToken must be 1 to 128"),
        ("two words", None, "Event", "DedupToken must be 1 to 128"),
        ("\u00e9", None, "Event", "DedupToken must be 1 to 128"),
        *(
            (None, text, "Event", "NotBefore must be epoch seconds or")
            for text in (
                "", "soon", "-1", "1e9", "nan", "\u0661", "1900000060 ", "2030-03-17", "2030-03-17T17:47:40",
                "2030-13-17T17:47:40Z", "2030-03-17T17:47:40.Z", "20300317T174740Z",
            )
        ),
        (None, "1900003600.001", "Event", "NotBefore must be at most 3600 seconds ahead"),
        (None, "9999-12-31T23:59:59-23:59", "Event", "NotBefore must be at most 3600 seconds ahead"),
        ("t", None, "RequestResponse", "the invocation type is RequestResponse"),
        (None, "soon", "DryRun", "the invocation type is DryRun"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(token: str | None, not_before: str | None, kind: str, says: str) -> None:
    with pytest.raises(AwsError) as caught:
        event_options(token, not_before, kind, NOW, 3600)
    assert (caught.value.name, caught.value.row.status) == ("InvalidParameterValueException", 400)
    assert says in caught.value.message
