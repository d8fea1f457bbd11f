"""Who calls: access keys, and the identity that a verified key stands for.

A key belongs to one account; the account and the region of the request make the tenant. Secrets never leave this
module's objects through `repr`, so that no log line can show one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose proof was verified."""

    access_key_id: str
    account: str  # twelve digits
    arn: str  # e.g. arn:aws:iam::123456789012:user/deploy
    powerless: bool = False  # known, and may do nothing


@dataclass(frozen=True, slots=True)
class AccessKey:
    """One access key as the cluster's settings name it."""

    id: str
    secret: str = field(repr=False)
    account: str
    principal: Principal

    @classmethod
    def of_user(cls, key_id: str, secret: str, account: str, user: str = "root") -> AccessKey:
        """The key of a named user of an account; `root` is the account itself, as in AWS's ARNs."""
        resource = "root" if user == "root" else f"user/{user}"
        return cls(key_id, secret, account, Principal(key_id, account, f"arn:aws:iam::{account}:{resource}"))

    @classmethod
    def of_session(
        cls, key_id: str, secret: str, account: str, role: str, name: str, *, powerless: bool = False
    ) -> AccessKey:
        """The temporary key of a session in which somebody has assumed a role. `role`: its ARN, of which the session's
        has the last part of the name; `name`: the session's."""
        arn = f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{name}"
        return cls(key_id, secret, account, Principal(key_id, account, arn, powerless))


class KeyRing:
    """The access keys in force, by id."""

    def __init__(self, keys: Iterable[AccessKey]) -> None:
        """Raises ValueError when two keys have one id."""
        self._keys: dict[str, AccessKey] = {}
        for key in keys:
            if key.id in self._keys:
                raise ValueError(f"access key {key.id} is given twice")
            self._keys[key.id] = key

    def find(self, key_id: str) -> AccessKey | None:
        """The key called so."""
        return self._keys.get(key_id)

    def __iter__(self) -> Iterator[AccessKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)
