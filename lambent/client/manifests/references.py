"""Ref, Fn::GetAtt and their kind: what stands in a manifest for a resource.

Of a manifest's resources its functions and layers are made here; what else is named must be given a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambent.client.manifests.plan import ManifestError

_WITHIN = re.compile(r"\$\{([^!][^}]*)\}")


@dataclass(slots=True)
class References:
    """What names stand for."""

    account: str
    region: str
    functions: Mapping[str, str]  # name of the resource → function name
    layers: Mapping[str, str]  # name of the resource → key
    given: Mapping[str, str]  # NAME, or NAME.ATTRIBUTE, of what is not made here → value

    def function_arn(self, name: str) -> str:
        """A function's."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"

    def text(self, value: Any, where: str) -> str:
        """A text, or what stands for one. Raises ManifestError."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float):
            return str(value)
        if isinstance(value, dict) and len(value) == 1:
            [(kind, inner)] = value.items()
            match kind:
                case "Ref":
                    return self._named(str(inner), where)
                case "Fn::GetAtt":
                    parts = inner if isinstance(inner, list) else str(inner).split(".", 1)
                    return self._named(".".join(map(str, parts)), where)
                case "Fn::Sub" if isinstance(inner, str):
                    return self._within(inner, {}, where)
                case "Fn::Sub" if isinstance(inner, list) and len(inner) == 2:
                    return self._within(inner[0], inner[1], where)
                case "Fn::Join" if isinstance(inner, list) and len(inner) == 2 and isinstance(inner[1], list):
                    return str(inner[0]).join(self.text(each, where) for each in inner[1])
            if kind.startswith("Fn::"):
                raise ManifestError(f"{where}: {kind} is not known here; write the value itself")
        raise ManifestError(f"{where}: this is no text")

    def _within(self, text: str, names: Mapping[str, Any], where: str) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1].strip()
            return self.text(names[name], where) if name in names else self._named(name, where)

        return _WITHIN.sub(value, text).replace("${!", "${")

    def _named(self, name: str, where: str) -> str:
        fixed = {"AWS::Region": self.region, "AWS::AccountId": self.account, "AWS::Partition": "aws"}
        if (found := fixed.get(name) or self.given.get(name)) is not None:
            return found
        resource, _, attribute = name.partition(".")
        if (function := self.functions.get(resource)) is not None:
            return self.function_arn(function) if attribute == "Arn" else function
        raise ManifestError(
            f"{where}: {name} is not made here; say what it is: --resource {name}=VALUE, or custom.lambent.resources"
        )

    def layer(self, value: Any, where: str) -> str:
        """A layer version's ARN, or the key of one of the manifest's own layers."""
        named = self.layers.get(str(value.get("Ref"))) if isinstance(value, dict) else None
        return named or self.text(value, where)
