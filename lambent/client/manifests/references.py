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
            match kind, inner:
                case "Ref", str(name):
                    return self._named(name, where)
                case "Fn::GetAtt", str(name) | [str(name)]:
                    return self._named(name, where)
                case "Fn::GetAtt", [str(name), attribute]:
                    return self._named(f"{name}.{attribute}", where)
                case "Fn::Sub", str(text):
                    return self._within(text, {}, where)
                case "Fn::Sub", [str(text), dict(names)]:
                    return self._within(text, names, where)
                case "Fn::Join", [str(separator), [*parts]]:
                    return separator.join(self.text(each, where) for each in parts)
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
