"""Secrets at rest: envelope encryption with XChaCha20-Poly1305 (libsodium through PyNaCl).

Each value gets a data key of its own, wrapped by the cluster's master key; what a value belongs to is authenticated
with it, so that a sealed value copied to another function does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import Aead

KEY_BYTES = 32


class SecretsError(Exception):
    """A sealed value that does not open with this key for this owner."""


class SecretBox:
    """Seals and opens values with one master key."""

    def __init__(self, master_key: bytes) -> None:
        self._master = Aead(master_key)

    def seal(self, plaintext: bytes, owner: str) -> str:
        """`plaintext` as text that only this key opens, and only for `owner`."""
        data_key = os.urandom(KEY_BYTES)
        wrapped = bytes(self._master.encrypt(data_key, owner.encode()))
        sealed = bytes(Aead(data_key).encrypt(plaintext, owner.encode()))
        return base64.b64encode(wrapped).decode() + "." + base64.b64encode(sealed).decode()

    def open(self, sealed: str, owner: str) -> bytes:
        """What was sealed. Raises SecretsError."""
        try:
            wrapped, _, body = sealed.partition(".")
            data_key = self._master.decrypt(base64.b64decode(wrapped), owner.encode())
            return Aead(data_key).decrypt(base64.b64decode(body), owner.encode())
        except (CryptoError, ValueError) as error:
            raise SecretsError(f"a secret of {owner} does not open with this cluster's key") from error


def mark_of(key: bytes) -> str:
    """Tells keys apart, and nothing of them."""
    return hashlib.sha256(b"lambent key mark" + key).hexdigest()[:16]


def load_or_make_key(path: Path) -> bytes:
    """The key in a file that only its owner reads; made at the first start."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise SecretsError(f"{path} does not hold a key of {KEY_BYTES} bytes") from None
        return key
    key = os.urandom(KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key
