"""Who may call: the root credentials, and the keys of a file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from lambent.domain.policies import account_of
from lambent.domain.principals import AccessKey, KeyRing, Principal
from lambent.infra.lifecycle import StartError
from lambent.infra.settings import Settings


class _KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the access-keys file."""

    id: str
    secret: str
    account: str
    principal: str = ""


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The access-keys file: [[access_keys]] tables."""

    access_keys: list[_KeyEntry] = []


def key_ring(settings: Settings) -> KeyRing:
    """Root credentials first, then the file's keys. Raises StartError."""
    cluster = settings.cluster
    root_id, _, root_secret = cluster.root_credentials.partition(":")
    keys = [AccessKey.of_user(root_id, root_secret, cluster.account)]
    if cluster.access_keys:
        try:
            document = tomllib.loads(Path(cluster.access_keys).read_text())
            entries = msgspec.convert(document, _KeyFile).access_keys
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise StartError(f"cannot use access keys of {cluster.access_keys}: {error}") from error
        for entry in entries:
            if len(entry.account) != 12 or not entry.account.isdecimal() or len(entry.secret) < 8:
                raise StartError(
                    f"access key {entry.id} in {cluster.access_keys} needs an account of twelve digits "
                    "and a secret of at least 8 characters"
                )
            arn = entry.principal or f"arn:aws:iam::{entry.account}:user/{entry.id}"
            if account_of(arn) != entry.account:
                # By it the key would be let in where another account's principals are.
                raise StartError(
                    f"access key {entry.id} in {cluster.access_keys} needs a principal of its account, "
                    f"arn:aws:iam::{entry.account}:user/NAME, say, not {arn}"
                )
            keys.append(AccessKey(entry.id, entry.secret, entry.account, Principal(entry.id, entry.account, arn)))
    try:
        return KeyRing(keys)
    except ValueError as error:
        raise StartError(f"cannot use access keys of {cluster.access_keys}: {error}") from error
