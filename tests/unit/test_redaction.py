"""What may be shown is shown, and no secret with it."""

from __future__ import annotations

import pytest

from lambent.infra.redaction import redacted, shown, without_values


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("redis://user:pass word@host", "redis://user:pass word@host"),  # no URL has a blank
        ("at redis://user:pa55@host:1/0, rediss://:x@h", "at redis://***@host:1/0, rediss://***@h"),
        ("authorization: Bearer abc.def-1", "authorization: *** ***"),
        ('{"metadata": "Bearer abc.def"}', '{"metadata": "Bearer ***"}'),
        ('{"secret_key": "abc", "other": "x"}', '{"secret_key": "***", "other": "x"}'),
        ("AWS_SECRET_ACCESS_KEY=abc/def+1 AWS_REGION=x", "AWS_SECRET_ACCESS_KEY=*** AWS_REGION=x"),
        ("password: hunter2", "password: ***"),
        ("the root secret is s3cr3t!", "the root secret is ***"),
        ("keys and passwords of functions", "keys and passwords of functions"),
    ],
)
def test_texts_lose_their_secrets_alone(text: str, left: str) -> None:
    assert redacted(text, ["s3cr3t!", ""]) == left


def test_settings_are_shown_but_credentials() -> None:
    assert shown("root_credentials", "KEY:secret") == "(set)"
    assert shown("root_credentials", "") == ""
    assert shown("redis_url", "redis://:x@h") == "redis://***@h"
    assert shown("limits.tags", 50) == 50


def test_objects_lose_the_values_of_variables_that_are_called_like_secrets() -> None:
    kept = {"name": "LAMBENT_DATA", "value": "/var"}
    pod = {
        "metadata": {"managedFields": [1], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "env": [{"name": "REDIS_PASSWORD", "value": "x"}, {"name": "API_KEY", "value": "y"}, kept, {"name": "KEYS"}],
    }
    assert without_values(pod) == {
        "metadata": {"annotations": {}},
        "env": [
            {"name": "REDIS_PASSWORD", "value": "***"},
            {"name": "API_KEY", "value": "***"},
            kept,
            {"name": "KEYS"},
        ],
    }
