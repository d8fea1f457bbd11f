"""Container images that functions are created from: looked up in their registry, where the cluster's connections lead
to it, and kept by digest. Workers fetch what is in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import Code
from lambent.domain.images import Fault, ImageError, parse_name
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.registries import Registries

_log = logging.getLogger(__name__)

# For one image. AWS's SDKs wait for an answer as long as a minute.
SECONDS = 50.0
_AT_ONCE = 4  # images that are looked up


def _source(text: str) -> Callable[[str, str], AwsError]:
    return lambda uri, why: invalid_parameter(f"Source image {uri} {text} Provide a valid source image. ({why})")


# What callers are told, in AWS's texts where it has one; in brackets, what is the matter.
_TOLD: Mapping[Fault, Callable[[str, str], AwsError]] = {
    Fault.MALFORMED: _source("is not valid."),
    Fault.ARCHITECTURE: _source("is not valid."),
    Fault.MISSING: _source("does not exist."),
    Fault.UNSUPPORTED: lambda uri, why: invalid_parameter(
        f"The image manifest, config or layer media type for the source image {uri} is not supported. ({why})"
    ),
    Fault.UNCONNECTED: lambda uri, why: invalid_parameter(f"ImageUri: {why}."),
    Fault.DENIED: lambda uri, why: AwsError(
        "AccessDeniedException",
        f"Lambda does not have permission to access the ECR image. Check the ECR permissions. ({why})",
    ),
    Fault.TOO_LARGE: lambda uri, why: invalid_parameter(f"The source image {uri} is too large. ({why})"),
    Fault.UNREACHABLE: lambda uri, why: AwsError(
        "ServiceUnavailableException", f"The image cannot be looked up at the moment; try again. ({why})"
    ),
}


class Images:
    """Looks images up."""

    def __init__(self, registries: Registries, limits: Limits) -> None:
        self._registries = registries
        self._limits = limits
        self._threads = ThreadPoolExecutor(_AT_ONCE, "images")

    async def find(self, tenant: Tenant, uri: str, architecture: str) -> Code:
        """The image that `uri` names now, as a function's code.

        Raises InvalidParameterValueException where there is none that a function can be, AccessDeniedException where
        the registry refuses it, ServiceUnavailableException where it says nothing.
        """
        try:
            name = parse_name(uri)
            registry = self._registries.of(tenant, name.host)
            looking = asyncio.get_running_loop().run_in_executor(self._threads, registry.resolve, name, architecture)
            async with asyncio.timeout(SECONDS):
                found = await looking
            size = sum(layer.blob.size for layer in found.manifest.layers)
            if size > self._limits.image_bytes:
                raise ImageError(Fault.TOO_LARGE, f"more than {self._limits.image_bytes} bytes")
        except ImageError as error:
            _log.info("an image is refused", extra={"image": uri, "reason": error.fault, "cause": str(error)})
            raise _TOLD[error.fault](uri, str(error)) from error
        except TimeoutError as error:
            raise _TOLD[Fault.UNREACHABLE](uri, "the registry takes too long") from error
        return Code(found.digest, 0, image=uri)

    def close(self) -> None:
        """Give up what is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
