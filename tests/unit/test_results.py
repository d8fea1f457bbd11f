"""What the SDK makes of what functions answer, whatever their runtimes say."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.client import FunctionFailed, InvokeResult


@pytest.mark.parametrize(
    ("payload", "kind", "message", "document"),
    [
        (b'{"errorType":"Boom","errorMessage":"bang"}', "Boom", "bang", {"errorType": "Boom", "errorMessage": "bang"}),
        (b'{"errorMessage":7}', "Unhandled", "7", {"errorMessage": 7}),
        (b'"bang"', "Unhandled", "bang", "bang"),
        (b"no JSON \xff", "Unhandled", "no JSON \ufffd", "no JSON \ufffd"),
        (b"", "Unhandled", "", ""),
    ],
)
def test_whatever_a_function_fails_with_is_one_exception(
    payload: bytes, kind: str, message: str, document: Any
) -> None:
    result = InvokeResult(payload, "Unhandled", "$LATEST", None, "r-1", 0.1)
    with pytest.raises(FunctionFailed) as failed:
        result.json()
    assert (failed.value.kind, failed.value.message, failed.value.document) == (kind, message, document)
