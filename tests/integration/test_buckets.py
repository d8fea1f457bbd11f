"""Packages in buckets, read from moto's server over S3's protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.code_store import MemoryCodeStore
from lambent.infra.connections import Connection, Connections
from services.frontend.buckets import BucketObject, Buckets
from services.frontend.operations.uploads import Uploads
from tests.conftest import free_port

TENANT = Tenant("123456789012", "us-east-1")
NAMES = ("one.zip", "a folder/ü+&=%7E?.zip", "/two//slashes", "x" * 1024)


def buckets(*rows: Connection, most: int = 1_000_000) -> Buckets:
    return Buckets(Connections(rows), SystemClock(), most_bytes=most)


def row(moto: str, **given: str) -> Connection:
    return Connection(moto, "k", "s", **({"service": "s3"} | given))


async def refused(found: Buckets, there: BucketObject) -> AwsError:
    with pytest.raises(AwsError) as error:
        await found.read(TENANT, there)
    return error.value


@pytest.mark.parametrize("key", NAMES)
async def test_whatever_an_object_is_called_it_is_read(moto: str, s3: Any, key: str) -> None:
    first = s3.put_object(Bucket="packages", Key=key, Body=b"first " + key.encode())["VersionId"]
    s3.put_object(Bucket="packages", Key=key, Body=b"second " + key.encode())
    found = buckets(row(moto))
    assert await found.read(TENANT, BucketObject("packages", key, None)) == b"second " + key.encode()
    assert await found.read(TENANT, BucketObject("packages", key, first)) == b"first " + key.encode()


async def test_several_are_read_one_after_the_other(moto: str, s3: Any) -> None:
    for number in range(4):
        s3.put_object(Bucket="packages", Key=str(number), Body=bytes(number + 1) * 50_000)
    found = buckets(row(moto))
    read = await asyncio.gather(*(found.read(TENANT, BucketObject("packages", str(n), None)) for n in range(4)))
    assert [len(each or b"") for each in read] == [50_000, 100_000, 150_000, 200_000]


async def test_what_is_too_large_is_not_read(moto: str, s3: Any) -> None:
    s3.put_object(Bucket="packages", Key="large", Body=bytes(2_000_000))
    there = BucketObject("packages", "large", None)
    assert await buckets(row(moto), most=1_999_999).read(TENANT, there) is None
    assert await buckets(row(moto), most=2_000_000).read(TENANT, there) == bytes(2_000_000)
    uploads = Uploads(MemoryCodeStore(), buckets(row(moto), most=1_999_999), Limits())
    with pytest.raises(AwsError) as error:
        await uploads.keep(there, TENANT)
    assert error.value.name == "InvalidParameterValueException"
    assert error.value.message == "Unzipped size must be smaller than 262144000 bytes"


async def test_what_is_not_there_is_told_in_s3s_words(moto: str, s3: Any) -> None:
    found = buckets(row(moto))
    nowhere = await refused(found, BucketObject("nowhere", "one.zip", None))
    assert nowhere.message == (
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist"
    )
    nothing = await refused(found, BucketObject("packages", "none.zip", None))
    assert nothing.message == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    )
    assert {nowhere.name, nothing.name} == {"InvalidParameterValueException"}


async def test_a_bucket_of_its_own_connection_comes_first_and_others_have_none(moto: str, s3: Any) -> None:
    s3.put_object(Bucket="packages", Key="own", Body=b"own")
    there = BucketObject("packages", "own", None)
    silent = f"http://127.0.0.1:{free_port()}"
    found = buckets(row(silent), row(moto, service="", arn="arn:aws:s3:::packages", account=TENANT.account))
    assert await found.read(TENANT, there) == b"own"
    unreachable = await refused(found, BucketObject("others", "own", None))
    assert unreachable.name == "ServiceUnavailableException"
    assert silent not in unreachable.message
    none = await refused(buckets(row(moto, account="999999999999")), there)
    assert none.name == "InvalidParameterValueException"
    assert none.message.startswith("S3Bucket: no connection of this cluster leads to S3")


@pytest.mark.parametrize("key", ["..", "../packages/own", "a/./b", "a/.."])
async def test_a_key_is_no_path_to_another_object(moto: str, s3: Any, key: str) -> None:
    error = await refused(buckets(row(moto)), BucketObject("packages", key, None))
    assert (error.name, error.message[:6]) == ("InvalidParameterValueException", "S3Key:")
