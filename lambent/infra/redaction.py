"""What may be shown of settings, logs and objects of Kubernetes: everything but secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MASK = "***"

# Settings that are shown as set or not, never as what they are.
_SECRET_SETTINGS = frozenset({"root_credentials"})
_URL_PASSWORD = re.compile(r"(?<=://)[^@/\s\"']*@")
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s\"',;}]+")
_SAID = re.compile(
    r"(?i)((?:secret(?:[_-]?access)?[_-]?key|password|session[_-]?token|authorization)\"?\s*[=:]\s*\"?)[^\s\"',;}]+"
)
# Variables of a pod whose value is not shown.
_SECRET_NAME = re.compile(r"(?i)secret|password|token|credential|(^|_)key$")


def shown(key: str, value: Any) -> Any:
    """A setting's value as it may be shown."""
    if key in _SECRET_SETTINGS and value:
        return "(set)"
    return without_password(value) if isinstance(value, str) else value


def without_password(text: str) -> str:
    """URLs, or a text with some, that may be shown."""
    return _URL_PASSWORD.sub(f"{MASK}@", text)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without `secrets`, passwords in URLs, bearer tokens, and what is called a secret or a password."""
    for secret in filter(None, secrets):
        text = text.replace(secret, MASK)
    for pattern in (_BEARER, _SAID):
        text = pattern.sub(rf"\1{MASK}", text)
    return without_password(text)


def without_values(node: Any) -> Any:
    """An object of Kubernetes, in JSON, without the values of variables that are called like secrets, and without what
    kubectl keeps of it in an annotation."""
    if isinstance(node, list):
        return [without_values(each) for each in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("value"), str) and _SECRET_NAME.search(str(node.get("name", ""))):
        node = node | {"value": MASK}
    return {
        key: without_values(each)
        for key, each in node.items()
        if key not in ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
    }
