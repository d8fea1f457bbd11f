"""Bytes as text that goes anywhere unquoted: base64url without padding, of which each value has one spelling."""

from __future__ import annotations

import base64
import binascii


def encode(raw: bytes) -> str:
    """Bytes as text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text. Raises binascii.Error, a ValueError, when it is no text of `encode`."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode(raw) != text:
        raise binascii.Error("not canonical")
    return raw
