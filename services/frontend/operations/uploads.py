"""Packages that requests bring: checked, measured and kept, those of functions and those of layers alike."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from lambent.domain import layers
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import AttachedLayer, Code
from lambent.domain.limits import Limits
from lambent.infra import packages
from lambent.infra.code_store import CodeStore


class Uploads:
    """Takes packages into the code store."""

    def __init__(self, code: CodeStore, limits: Limits) -> None:
        self._code = code
        self._limits = limits

    async def keep(self, data: bytes | None, attached: Sequence[AttachedLayer] = (), *, dry_run: bool = False) -> Code:
        """Check a package, together with the layers of the function that it is for, and keep it.

        Raises what AWS says of a bad one. None: the request brings none.
        """
        if data is None:
            raise invalid_parameter("Please provide a source for function code.")
        if len(data) > self._limits.zip_bytes:
            raise AwsError(
                "RequestEntityTooLargeException", f"Zipped size must be smaller than {self._limits.zip_bytes} bytes"
            )
        try:
            unzipped = await asyncio.to_thread(packages.check, data, self._limits)
        except packages.PackageError as error:
            raise invalid_parameter(package_text(error, self._limits)) from error
        layers.check_size(unzipped, attached, self._limits.unzipped_bytes)
        if dry_run:
            return Code(hashlib.sha256(data).hexdigest(), len(data), unzipped)
        return Code(await asyncio.to_thread(self._code.put, data), len(data), unzipped)


def package_text(error: packages.PackageError, limits: Limits) -> str:
    """AWS's text where it has one for this fault, else what is wrong with the package."""
    if error.fault is packages.Fault.TOO_LARGE:
        return f"Unzipped size must be smaller than {limits.unzipped_bytes} bytes"
    if error.fault is packages.Fault.CORRUPT:
        return "Could not unzip uploaded file. Please check your file, then try to upload again."
    return f"Could not unzip uploaded file. {error}"
