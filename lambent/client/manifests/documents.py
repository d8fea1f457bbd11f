"""YAML and JSON as those who write manifests know it: CloudFormation's tags, and no dates, `yes` or octal numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lambent.client.manifests.plan import ManifestError

# What YAML 1.2 takes for something else than text; PyYAML knows 1.1, where `no` is false and 1:20 a number.
_PLAIN = (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("tag:yaml.org,2002:merge", r"^<<$", ["<"]),
)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """SafeLoader with those rules."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 add_implicit_resolver fills this class's own


for _tag, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _tagged(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    """`!Ref x` as {"Ref": "x"}, `!GetAtt a.b` as {"Fn::GetAtt": ["a", "b"]}."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if name in ("Ref", "Condition"):
        return {name: value}
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{name}": value}


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 16) if text.startswith("0x") else int(text)


_Loader.add_multi_constructor("!", _tagged)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def read(path: Path) -> Any:
    """What a file of YAML or JSON says; the text of any other. Raises ManifestError."""
    try:
        text = path.read_text()
        if path.suffix in (".yml", ".yaml"):
            return yaml.load(text, _Loader)
        return msgspec.json.decode(text) if path.suffix == ".json" else text
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ManifestError(f"{path}{place}: {error.problem}") from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {str(error).splitlines()[0]}") from None


def is_file(path: Path) -> bool:
    """Whether there is such a file. Raises ManifestError where there can be none of that name."""
    try:
        return path.is_file()
    except OSError as error:
        raise ManifestError(f"{str(path)[:200]}: {error.strerror}") from None


def as_json(value: Any) -> str:
    """A value as one line of JSON."""
    return msgspec.json.encode(value).decode()
