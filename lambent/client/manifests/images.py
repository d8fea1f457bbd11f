"""Container images as manifests name them. None is built: what has been pushed is named."""

from __future__ import annotations

from typing import Any

from lambent.client.deploying import Document
from lambent.client.manifests.plan import ManifestError
from lambent.client.manifests.shapes import members, texts

# What is said of an image, as the Serverless Framework and as SAM call it.
SERVERLESS = ("entryPoint", "command", "workingDirectory")
SAM = ("EntryPoint", "Command", "WorkingDirectory")


def settings(said: Any, names: tuple[str, str, str], where: str) -> Document:
    """ImageConfig, whole: what nobody says is the image's own."""
    own = members(said, where)
    entry_point, command, directory = names
    return {
        "EntryPoint": texts(own.get(entry_point), f"{where}.{entry_point}"),
        "Command": texts(own.get(command), f"{where}.{command}"),
        "WorkingDirectory": str(own.get(directory) or ""),
    }


def of_serverless(said: Any, known: Any, where: str) -> tuple[str, Document]:
    """The URI of a function's `image`, and its ImageConfig. `known`: `provider.ecr.images`. Raises ManifestError."""
    own = {"uri": said} if isinstance(said, str) else members(said, where)
    for member in ("uri", "name"):
        if not isinstance(own.get(member, ""), str):
            raise ManifestError(f"{where}.{member}: this is no text")
    images = members(known, "provider.ecr.images")
    name = own.get("name") or (own["uri"] if own.get("uri") in images else None)
    if name is not None:
        if name not in images:
            raise ManifestError(f"{where}: provider.ecr.images has no {name}")
        image = images[name]
        uri = image if isinstance(image, str) else members(image, f"provider.ecr.images.{name}").get("uri")
    else:
        uri = own.get("uri")
    if not uri:
        raise ManifestError(f"{where}: no image is built here; push it, and say its `uri`")
    return str(uri), settings(own, SERVERLESS, where)
