"""Lists all that is in an image as a CycloneDX document: distributions of this interpreter, and Debian's packages.

Run while an image is built (images/): `python tools/sbom.py NAME > sbom.json`. The same image gives the same document.
Source of the form: https://cyclonedx.org/docs/1.5/json/
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

# An image of its own distribution has no dpkg; then only Python's are listed.
_DEBIAN = ("dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\n")


def python_components(distributions: Iterable[importlib.metadata.Distribution]) -> list[dict[str, Any]]:
    """One component for each distribution, by name."""
    made = []
    for distribution in distributions:
        name, version = distribution.metadata["Name"].lower().replace("_", "-"), distribution.version
        component: dict[str, Any] = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        if licence := _licence(distribution):
            component["licenses"] = [{"license": {"name": licence}}]
        made.append(component)
    return sorted(made, key=lambda each: str(each["name"]))


def _licence(distribution: importlib.metadata.Distribution) -> str:
    if said := distribution.metadata.get_all("License-Expression"):
        return str(said[0])
    found = [
        value.rpartition(" :: ")[2]
        for value in distribution.metadata.get_all("Classifier") or ()
        if value.startswith("License ::")
    ]
    return ", ".join(found)


def debian_components(listing: str) -> list[dict[str, Any]]:
    """One component for each line of name, version and architecture, with tabs between."""
    made = []
    for line in sorted(filter(None, listing.splitlines())):
        name, version, architecture = line.split("\t")
        made.append(
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:deb/debian/{name}@{version}?arch={architecture}",
            }
        )
    return made


def document(name: str, version: str, components: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": components,
    }


def main() -> None:
    """Write the document of this machine to standard output."""
    listing = ""
    if shutil.which(_DEBIAN[0]):
        listing = subprocess.run(_DEBIAN, capture_output=True, text=True, check=True).stdout
    components = python_components(importlib.metadata.distributions()) + debian_components(listing)
    made = document(sys.argv[1], importlib.metadata.version("lambent"), components)
    json.dump(made, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
