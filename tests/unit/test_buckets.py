"""Packages in buckets: what a request says, and what its caller is told of S3's answers."""

from __future__ import annotations

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.http_client import Answer
from lambent.v1 import function_service_pb2 as pb
from services.frontend.buckets import BucketObject, refusal
from services.frontend.operations.uploads import package_of

THERE = BucketObject("packages", "one.zip", None)
ABSENT = "<Error><Code>NoSuchKey</Code><Message>It&apos;s not there.</Message><Key>one.zip</Key></Error>"


def test_a_package_is_there_or_elsewhere() -> None:
    assert package_of(pb.FunctionCode(zip_file=b"PK")) == b"PK"
    assert package_of(pb.FunctionCode(zip_file=b"")) == b""
    assert package_of(pb.FunctionCode(s3_bucket="packages", s3_key="one.zip")) == THERE
    versioned = pb.UpdateFunctionCodeRequest(s3_bucket="packages", s3_key="one.zip", s3_object_version="v")
    assert package_of(versioned) == BucketObject("packages", "one.zip", "v")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (pb.FunctionCode(), "Please provide a source for function code."),
        (pb.FunctionCode(s3_bucket="packages"), "Please provide both S3Bucket and S3Key."),
        (pb.FunctionCode(s3_key="one.zip", s3_object_version="v"), "Please provide both S3Bucket and S3Key."),
        (
            pb.FunctionCode(zip_file=b"PK", s3_bucket="packages"),
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
    ],
)
def test_no_source_and_two_are_refused(code: pb.FunctionCode, says: str) -> None:
    with pytest.raises(AwsError) as refused:
        package_of(code)
    assert (refused.value.name, refused.value.message) == ("InvalidParameterValueException", says)


@pytest.mark.parametrize(
    ("status", "body", "name", "says"),
    [
        (404, ABSENT, "InvalidParameterValueException", "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: It's not there."),
        (404, "", "InvalidParameterValueException", "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: NoSuchKey"),
        (301, "", "InvalidParameterValueException", "S3 Error Code: PermanentRedirect."),
        (418, "tea", "InvalidParameterValueException", "S3 Error Code: 418."),
        (403, "<Error><Code>InvalidAccessKeyId</Code></Error>", "InvalidParameterValueException", "S3 Error Code: InvalidAccessKeyId."),
        (403, "", "AccessDeniedException", "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for packages/one.zip. S3 Error Code: AccessDenied."),
        (500, "", "ServiceUnavailableException", "try again"),
        (400, "<Error><Code>RequestTimeout</Code></Error>", "ServiceUnavailableException", "try again"),
        (503, "<Error><Code>SlowDown</Code></Error>", "ServiceUnavailableException", "try again"),
    ],
)  # fmt: skip
def test_what_s3_says_is_told_as_aws_tells_it(status: int, body: str, name: str, says: str) -> None:
    error = refusal(THERE, Answer(status, {}, body.encode()))
    assert error.name == name
    assert says in error.message
