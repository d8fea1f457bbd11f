"""JSON as `json.loads` and `json.dumps` read and write it, without the layers that they put around the work in C.

For a small event those layers are most of the time, and most of the code that a sandbox brings into the processor's
caches for one invocation. Whatever is out of the ordinary goes to the plain functions, which have the last word.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any, Dict

ENSURE_ASCII = sys.version_info < (3, 12)


class Decimals:
    """Lets json write a Decimal as the number it is, digit by digit: as a marked text that is unmarked afterwards."""

    def __init__(self) -> None:
        self.mark = ""

    def default(self, value: Any) -> Any:
        decimal = sys.modules.get("decimal")
        if decimal is not None and isinstance(value, decimal.Decimal):
            if not self.mark:
                self.mark = "decimal-%032x:" % random.SystemRandom().getrandbits(128)
            return self.mark + str(value)
        raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)

    def unmark(self, text: str) -> str:
        if not self.mark:
            return text
        import re

        mark, self.mark = self.mark, ""
        return re.sub('"%s([^"]*)"' % mark, r"\1", text)


class Writer:
    """`json.dumps` with everything that it makes anew for each document made once."""

    def __init__(self) -> None:
        self.decimals = Decimals()
        self.seen: Dict[int, Any] = {}  # what is being written: how the encoder finds a circular reference
        encoder: Any = json.encoder
        text = encoder.encode_basestring_ascii if ENSURE_ASCII else encoder.encode_basestring
        make = encoder.c_make_encoder
        self.encode = make and make(self.seen, self.decimals.default, text, None, ": ", ", ", False, False, True)

    def write(self, value: Any) -> str:
        decimals = self.decimals
        if self.encode is None:  # an interpreter without the encoder in C
            return decimals.unmark(json.dumps(value, ensure_ascii=ENSURE_ASCII, default=decimals.default))
        try:
            return decimals.unmark("".join(self.encode(value, 0)))
        finally:
            decimals.mark = ""
            self.seen.clear()  # it forgets nothing by itself where it fails


def parse(document: bytes) -> Any:
    """`json.loads`, which puts four layers around one call in C: more work than that call for an ordinary event."""
    try:
        text = document.decode()
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except (ValueError, StopIteration):
        pass
    return json.loads(document)  # blanks around it, another encoding, or no JSON at all: it knows what to say


_decoder: Any = json.JSONDecoder()
_scan = _decoder.scan_once
write = Writer().write
