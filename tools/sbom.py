"""What is installed beside this interpreter, as CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/): standard output.

Without a time and without a serial number, so that one set of packages always gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import Distribution, distributions


def bill(found: list[Distribution]) -> dict[str, object]:
    """The document."""
    components = [
        {
            "type": "library",
            "name": each.metadata["Name"],
            "version": each.version,
            "purl": f"pkg:pypi/{each.metadata['Name'].lower().replace('_', '-')}@{each.version}",
            **_licences(each),
        }
        for each in sorted(found, key=lambda each: each.metadata["Name"].lower())
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def _licences(each: Distribution) -> dict[str, object]:
    expression = each.metadata.get("License-Expression")
    named = each.metadata.get("License", "")
    if expression:
        return {"licenses": [{"expression": expression}]}
    return {"licenses": [{"license": {"name": named.splitlines()[0]}}]} if named.strip() else {}


if __name__ == "__main__":
    json.dump(bill(list(distributions())), sys.stdout, indent=1)
