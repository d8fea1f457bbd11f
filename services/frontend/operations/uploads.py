"""Packages that requests bring, or that lie where they say: checked, measured and kept; of functions and of layers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Literal

from lambent.domain import layers
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import AttachedLayer, Code
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra import packages
from lambent.infra.code_store import CodeStore
from lambent.v1 import function_service_pb2, layer_service_pb2
from services.frontend.buckets import BucketObject, Buckets

Packaged = (
    function_service_pb2.FunctionCode
    | function_service_pb2.UpdateFunctionCodeRequest
    | layer_service_pb2.LayerVersionContentInput
)
Source = bytes | BucketObject
_IN_BUCKET: tuple[Literal["s3_bucket", "s3_key", "s3_object_version"], ...] = (
    "s3_bucket", "s3_key", "s3_object_version",
)  # fmt: skip


def source_of(
    request: function_service_pb2.FunctionCode | function_service_pb2.UpdateFunctionCodeRequest, *, of_image: bool
) -> Source | str:
    """What a function is to be made of: a package, or where it is; or, of a function `of_image`, the image's URI.
    Raises InvalidParameterValueException where there is none of its kind."""
    doing = "updating" if isinstance(request, function_service_pb2.UpdateFunctionCodeRequest) else "creating"
    if not of_image:
        if request.image_uri:
            text = f"Please don't provide ImageUri when {doing} a function with packageType Zip."
            raise invalid_parameter(text)
        return package_of(request)
    if not request.image_uri:
        raise invalid_parameter(f"Please provide ImageUri when {doing} a function with packageType Image.")
    if request.HasField("zip_file") or any(request.HasField(name) for name in _IN_BUCKET):
        raise invalid_parameter("Please do not provide other FunctionCode parameters when providing an ImageUri.")
    return request.image_uri


def package_of(request: Packaged) -> Source:
    """A request's package, or where it is. Raises InvalidParameterValueException where that is neither or both."""
    elsewhere = any(request.HasField(name) for name in _IN_BUCKET)
    if request.HasField("zip_file"):
        if elsewhere:
            raise invalid_parameter("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        return request.zip_file
    if not elsewhere:
        raise invalid_parameter("Please provide a source for function code.")
    if not (request.HasField("s3_bucket") and request.HasField("s3_key")):
        raise invalid_parameter("Please provide both S3Bucket and S3Key.")
    return BucketObject(
        request.s3_bucket, request.s3_key, request.s3_object_version if request.HasField("s3_object_version") else None
    )


class Uploads:
    """Takes packages into the code store."""

    def __init__(self, code: CodeStore, buckets: Buckets, limits: Limits) -> None:
        self._code = code
        self._buckets = buckets
        self._limits = limits

    async def keep(
        self, source: Source, tenant: Tenant, attached: Sequence[AttachedLayer] = (), *, dry_run: bool = False
    ) -> Code:
        """Check a package, together with the layers of the function that it is for, and keep it.

        Raises what AWS says of a bad one, and what `Buckets.read` does.
        """
        try:
            data = await self._bytes(source, tenant)
            unzipped = await asyncio.to_thread(packages.check, data, self._limits)
        except packages.PackageError as error:
            raise invalid_parameter(package_text(error, self._limits)) from error
        layers.check_size(unzipped, attached, self._limits.unzipped_bytes)
        if dry_run:
            return Code(hashlib.sha256(data).hexdigest(), len(data), unzipped)
        return Code(await asyncio.to_thread(self._code.put, data), len(data), unzipped)

    async def _bytes(self, source: Source, tenant: Tenant) -> bytes:
        """The package, unless it is too large already as it is; zipped, what lies in a bucket may have as much as
        unzipped. Raises AwsError and PackageError."""
        if isinstance(source, bytes):
            if len(source) > self._limits.zip_bytes:
                text = f"Zipped size must be smaller than {self._limits.zip_bytes} bytes"
                raise AwsError("RequestEntityTooLargeException", text)
            return source
        found = await self._buckets.read(tenant, source)
        if found is None:
            raise packages.PackageError(packages.Fault.TOO_LARGE, "The package is larger than any may be unzipped")
        return found


def package_text(error: packages.PackageError, limits: Limits) -> str:
    """AWS's text where it has one for this fault, else what is wrong with the package."""
    if error.fault is packages.Fault.TOO_LARGE:
        return f"Unzipped size must be smaller than {limits.unzipped_bytes} bytes"
    if error.fault is packages.Fault.CORRUPT:
        return "Could not unzip uploaded file. Please check your file, then try to upload again."
    return f"Could not unzip uploaded file. {error}"
