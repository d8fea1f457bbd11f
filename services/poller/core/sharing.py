"""Which poller reads which event source: each pair of them has a weight, and the heaviest reads. All pollers come to
the same answer without a word, and when one comes or goes, only what was or is its own moves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def reader_of(source: str, readers: Iterable[str]) -> str | None:
    """Whose source it is. None: there are no readers. (Thaler and Ravishankar, Using name-based mappings, 1998.)"""
    return max(readers, key=lambda reader: (_weight(source, reader), reader), default=None)


def _weight(source: str, reader: str) -> bytes:
    return hashlib.blake2b(f"{source} {reader}".encode(), digest_size=8).digest()
