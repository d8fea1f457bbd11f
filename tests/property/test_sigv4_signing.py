"""Requests that we sign are signed as botocore signs them."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent.infra.sigv4_signing import Signer

NOW = 1_790_000_000.0
paths = st.lists(
    st.text("abcXYZ019-_.~%20:+$", min_size=1, max_size=8).filter(lambda part: part.strip(".")), max_size=4
)


@pytest.mark.parametrize("service", ["sqs", "sns", "events", "lambda", "s3"])
@settings(max_examples=60)
@given(
    parts=paths, body=st.binary(max_size=50), value=st.text("ab 1", min_size=1).filter(str.strip),
    version=st.none() | st.text("aZ0-_.~/+= ü", min_size=1),
)  # fmt: skip
def test_as_botocore_does(service: str, parts: list[str], body: bytes, value: str, version: str | None) -> None:
    path = "/" + "/".join(parts)
    query = "" if version is None else f"versionId={quote(version, safe='')}"
    headers = {"host": "there.example:8000", "content-type": "application/json", "x-amz-target": value}
    ours = Signer("AKID", "secret", "eu-west-1", service).sign("POST", path, headers, body, NOW, query)
    url = f"http://there.example:8000{path}" + (f"?{query}" if query else "")
    request = AWSRequest("POST", url, data=body, headers=dict(headers))
    request.headers["X-Amz-Content-SHA256"] = ours["x-amz-content-sha256"]
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials("AKID", "secret"), service, "eu-west-1")
    with patch(
        "botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
    ):
        auth.add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
