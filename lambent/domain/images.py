"""Container images that functions are made of: how they are named, what a registry says of them, what runs in them.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/images-create.html, API_ImageConfig, and the Open Container
Initiative's image and distribution specifications.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

PACKAGE_TYPE = "Image"
# What stands where a zip package's runtime does, for whoever chooses or equips a worker.
RUNTIME = "image"

# AWS's names for processors → those of images.
PLATFORMS: Mapping[str, str] = {"x86_64": "amd64", "arm64": "arm64"}
_MANIFESTS = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
_INDEXES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
# What a registry is asked for.
ACCEPTED = ", ".join(sorted(_MANIFESTS | _INDEXES))
# How layers are packed → whether they are compressed, which means gzip: what AWS takes.
_LAYERS: Mapping[str, bool] = {
    "application/vnd.oci.image.layer.v1.tar+gzip": True,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": True,
    "application/vnd.oci.image.layer.v1.tar": False,
    "application/vnd.docker.image.rootfs.diff.tar": False,
}
# Source: https://github.com/distribution/reference (the grammar of references). A name without a host is refused: AWS
# has no registry that it would stand for, and neither have we.
_NAME = re.compile(
    r"(?P<host>localhost(:\d{1,5})?|[a-z0-9][a-z0-9.-]*(\.[a-z0-9-]+|:\d{1,5})(:\d{1,5})?|\[[0-9a-f:]+\](:\d{1,5})?)"
    r"/(?P<repository>[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(:(?P<tag>\w[\w.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_NAME = 1024


class Fault(StrEnum):
    """Why an image cannot be had."""

    MALFORMED = "Malformed"  # its name, or what it is made of
    UNSUPPORTED = "Unsupported"  # in a form that is not read
    ARCHITECTURE = "Architecture"  # for other processors
    UNCONNECTED = "Unconnected"  # of a registry that no connection leads to
    MISSING = "Missing"
    DENIED = "Denied"
    TOO_LARGE = "TooLarge"
    UNREACHABLE = "Unreachable"  # for now


class ImageError(Exception):
    """An image cannot be had; the text is one line."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ImageName:
    """What an ImageUri says."""

    host: str  # of the registry, with its port where one is named
    repository: str
    tag: str | None
    digest: str | None  # lower-case hex SHA-256 of the manifest; it counts, whatever the tag says

    @property
    def reference(self) -> str:
        """How a registry knows the manifest."""
        return f"sha256:{self.digest}" if self.digest is not None else self.tag or "latest"

    def resolved(self, digest: str) -> str:
        """The URI of the manifest with this digest, which is the same image for ever."""
        return f"{self.host}/{self.repository}@sha256:{digest}"


def parse_name(uri: str) -> ImageName:
    """Read an ImageUri. Raises ImageError."""
    found = _NAME.fullmatch(uri) if len(uri) <= _MOST_NAME else None
    if found is None:
        raise ImageError(Fault.MALFORMED, f"{uri} is not HOST/REPOSITORY[:TAG][@sha256:DIGEST]")
    return ImageName(found["host"], found["repository"], found["tag"], found["digest"])


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What a function says of its image. Source: API_ImageConfig."""

    entry_point: tuple[str, ...] = ()  # instead of the image's ENTRYPOINT; empty: the image's
    command: tuple[str, ...] = ()  # instead of its CMD; empty: the image's
    working_directory: str = ""  # instead of its WORKDIR; empty: the image's

    @property
    def given(self) -> bool:
        """Whether it says anything."""
        return bool(self.entry_point or self.command or self.working_directory)

    @property
    def size(self) -> int:
        """Bytes of the texts."""
        return sum(len(text.encode()) for text in (*self.entry_point, *self.command, self.working_directory))


class Built(msgspec.Struct, frozen=True):
    """What an image says of itself."""

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    variables: tuple[str, ...] = ()  # NAME=VALUE

    def environ(self) -> dict[str, str]:
        """The variables by name."""
        pairs = (text.partition("=") for text in self.variables)
        return {name: value for name, separator, value in pairs if name and separator and "\0" not in value}


@dataclass(frozen=True, slots=True)
class Blob:
    """A part of an image in its registry."""

    digest: str  # lower-case hex SHA-256
    size: int  # bytes, as it is kept there


@dataclass(frozen=True, slots=True)
class Layer:
    """Files that lie over those of the layers before."""

    blob: Blob
    compressed: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of an image for one kind of processors."""

    config: Blob
    layers: tuple[Layer, ...]  # the lowest first


def read_manifest(document: bytes, media_type: str, architecture: str) -> Manifest | Blob:
    """The parts of an image; or, of an index of several, the manifest that is for processors of AWS's name
    `architecture`. `media_type`: as the registry has it, where the document does not say itself. Raises ImageError."""
    content = _object(document)
    kind = str(content.get("mediaType") or media_type.partition(";")[0].strip())
    if kind in _INDEXES:
        return _choose(content, architecture)
    if kind not in _MANIFESTS:
        raise ImageError(Fault.UNSUPPORTED, f"a manifest of type {kind}")
    layers = _list(content.get("layers"))
    kinds = [str(layer.get("mediaType")) for layer in layers]
    if unknown := [each for each in kinds if each not in _LAYERS]:
        raise ImageError(Fault.UNSUPPORTED, f"a layer of type {unknown[0]}")
    found = tuple(Layer(_blob(layer), _LAYERS[each]) for layer, each in zip(layers, kinds, strict=True))
    return Manifest(_blob(content.get("config")), found)


def _choose(index: Mapping[str, Any], architecture: str) -> Blob:
    wanted = PLATFORMS.get(architecture, architecture)
    platforms = []
    for item in _list(index.get("manifests")):
        platform = item.get("platform")
        if not isinstance(platform, dict) or platform.get("os") != "linux":
            continue  # provenance, or another system
        if platform.get("architecture") == wanted:
            return _blob(item)
        platforms.append(str(platform.get("architecture")))
    raise ImageError(Fault.ARCHITECTURE, f"it is for {', '.join(platforms) or 'nothing'}, not for {wanted}")


def read_config(document: bytes, architecture: str) -> Built:
    """What an image says of itself. Raises ImageError, also where it is for other processors."""
    content = _object(document)
    wanted = PLATFORMS.get(architecture, architecture)
    if content.get("architecture") != wanted or content.get("os") != "linux":
        has = f"{content.get('os')} on {content.get('architecture')}"
        raise ImageError(Fault.ARCHITECTURE, f"it is for {has}, not for linux on {wanted}")
    config = content.get("config") or {}
    try:
        return Built(
            entry_point=msgspec.convert(config.get("Entrypoint") or (), tuple[str, ...]),
            command=msgspec.convert(config.get("Cmd") or (), tuple[str, ...]),
            working_directory=msgspec.convert(config.get("WorkingDir") or "", str),
            variables=msgspec.convert(config.get("Env") or (), tuple[str, ...]),
        )
    except (msgspec.ValidationError, AttributeError) as error:
        raise ImageError(Fault.MALFORMED, f"its configuration is malformed: {error}") from None


def started_as(built: Built, wanted: ImageSettings) -> ImageSettings:
    """What is started, and where: each of the three is the function's, else the image's."""
    return ImageSettings(
        wanted.entry_point or built.entry_point,
        wanted.command or built.command,
        wanted.working_directory or built.working_directory or "/",
    )


def _object(document: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ImageError(Fault.MALFORMED, "what the registry has is no JSON object")
    return content


def _list(value: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ImageError(Fault.MALFORMED, "its manifest is malformed")
    return value


def _blob(value: object) -> Blob:
    if isinstance(value, dict):
        digest, size = value.get("digest"), value.get("size")
        found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if found is not None and type(size) is int and size >= 0:
            return Blob(found[1], size)
    raise ImageError(Fault.MALFORMED, "its manifest names a part by no digest and size")
