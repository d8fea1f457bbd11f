"""Which manifest a folder has, and what it asks for, whoever's it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lambent.client.manifests import documents, sam, serverless
from lambent.client.manifests.plan import ManifestError, Plan
from lambent.client.manifests.variables import Surroundings


def find(folder: Path) -> Path | None:
    """The manifest that a path is, or that its folder has; None: it is a function's folder."""
    if folder.is_file():
        return folder
    if (folder / "function.toml").exists():
        return None
    for name in serverless.NAMES:
        if (folder / name).is_file():
            return folder / name
    # A file of that name may be anything's.
    templates = (folder / name for name in sam.NAMES)
    return next(
        (path for path in templates if path.is_file() and sam.FUNCTION in path.read_text(errors="replace")), None
    )


def read(path: Path, surroundings: Surroundings, resources: Mapping[str, str], stack: str) -> Plan:
    """What it asks for. `resources`: what names stand for that are not made here. `stack`: a template's, empty for its
    own. Raises ManifestError."""
    document = documents.read(path)
    if isinstance(document, dict) and "Resources" in document:
        if surroundings.stage:
            raise ManifestError(f"{path}: a template has no stages; give its parameters with --param")
        return sam.read(document, path, surroundings, resources, stack)
    if stack:
        raise ManifestError(f"{path}: its functions are named by the manifest, which --stage is for, not --name")
    return serverless.read(document, path, surroundings, resources)
