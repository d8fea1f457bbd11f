"""The socket between worker and guest: what travels, byte by byte. The host imports this file; never the reverse.

    frame = kind:u8  meta_length:u32  payload_length:u32  meta  payload        (little-endian)

Host to guest:
    CLAIM    meta = JSON object, see zygote.py; the mount namespace to join may come along as a descriptor
    INIT     meta = JSON object {handler, environ, task_root, opt_root, response_limit}: become this function
    INVOKE   meta = JSON array [request id, deadline in epoch ms, arn, trace header, client context as JSON
             text or null]; payload = the event
Guest to host:
    READY       meta = usage: the handler is loaded
    INIT_ERROR  meta = usage + error type; payload = the error document; the guest exits after it
    RESPONSE    meta = usage; payload = what the handler returned
    ERROR       meta = usage + error type; payload = the error document
    usage = most memory used so far in KiB:u32; the error type follows it as UTF-8 text.

The host believes nothing that it reads here: lengths are bounded, an unexpected kind ends the sandbox.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<BII")
USAGE = struct.Struct("<I")

CLAIM = 1
INIT = 2
INVOKE = 3
READY = 16
INIT_ERROR = 17
RESPONSE = 18
ERROR = 19

MAX_META = 1024 * 1024


def pack(kind: int, meta: bytes, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEAD.pack(kind, len(meta), len(payload)) + meta + payload
