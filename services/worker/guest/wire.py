"""The socket between worker and guest: what travels, byte by byte. The host imports this file; never the reverse.

    frame = kind:u8  meta_length:u32  payload_length:u32  meta  payload        (little-endian)

Host to guest:
    CLAIM    meta = JSON object, see zygote.py; the mount namespace to join, or a snapshot's socket for commands, may
             come along as a descriptor
    INIT     meta = JSON object {handler, environ, task_root, opt_root, runtime_root, response_limit, tenant_id or
             null}: become this function
    RESTORE  meta = JSON object {environ}: what a snapshot has forked becomes this environment
    INVOKE   meta = JSON array [request id, deadline in epoch ms, arn, trace header, client context as JSON
             text or null]; payload = the event
    REST     for a while there will be nothing to do: memory that can be had again is given back (image.py)
Host to launcher (launcher.py), which is sent no INVOKE:
    INIT        meta = JSON object {environ, own_network, extensions: folder, hidden_from_extensions: names,
             commands: [[program, argument, ...], ...] of which the first that is there is the runtime, python: what
             the Python runtime of our own is told in an INIT, but its environ; or null}
    START       every extension has registered: start the runtime
    SIGNAL      meta = {signal}: for the runtime
    DELIVER     meta = {port, path, type: HTTP or TCP}; payload = telemetry for a listener in the sandbox
Guest to host:
    READY       meta = usage: the handler is loaded
    UNSHAREABLE meta = usage + reason, colon, what was found: a snapshot that cannot be forked; it exits after it
    INIT_ERROR  meta = usage + error type; payload = the error document; the guest exits after it
    RESPONSE    meta = usage; payload = what the handler returned
    ERROR       meta = usage + error type; payload = the error document
Launcher to host; each meta is a JSON object:
    LISTENING         {port, extensions: [name, ...]} + listening socket, read ends of the pipe for framed records and
                      of the one that extensions print to
    LAUNCH_FAILED     {type, message}: the runtime or an extension cannot be started
    RUNTIME_EXITED    {status, signal}, one of which is null
    EXTENSION_EXITED  the same and {name}
    usage = most memory used so far in KiB:u32; the error type follows it as UTF-8 text.

The host believes nothing that it reads here: lengths are bounded, an unexpected kind ends the sandbox.

Between the worker and what forks (zygote.py, snapshot.py) are sockets of the kind that keeps messages apart;
descriptors come beside a message:

    note = kind:u8  id:u32  value:i32  text        (little-endian; the id is that of the child in question)

Worker to what forks:
    FORK        + what zygote.py or snapshot.py say; value for a snapshot = the copy's user id, -1: none; for a zygote
                1: it is not wanted soon, and copies memory that its function will write to (image.py), 0: it may be
    PAUSE       text = JSON object, see zygote.py
What forks to worker:
    UP, FAILED  once: it can fork; it cannot, and text says why
    FORKED      + pidfd
    PREPARED    + the child's mount namespace where it has one: nothing but the claim is left to do; said by the child
    ENDED       value = wait status, text = why nothing was forked, where that is so
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<BII")
USAGE = struct.Struct("<I")
NOTE = struct.Struct("<BIi")

CLAIM = 1
INIT = 2
INVOKE = 3
START = 4
SIGNAL = 5
DELIVER = 6
RESTORE = 7
REST = 8
READY = 16
INIT_ERROR = 17
RESPONSE = 18
ERROR = 19
LISTENING = 20
LAUNCH_FAILED = 21
RUNTIME_EXITED = 22
EXTENSION_EXITED = 23
UNSHAREABLE = 24

FORK = 32
PAUSE = 33
UP = 34
FAILED = 35
FORKED = 36
PREPARED = 37
ENDED = 38

MAX_META = 1024 * 1024

# What stands for the line breaks within a log record of the Python runtime's, so that it stays one event: output is cut
# at line breaks. A function that prints it breaks its own lines.
BREAK = "\x1f\x1e"


def text(meta: bytes) -> str:
    """What stands behind a usage; more than 256 bytes of it nobody means."""
    return meta[USAGE.size : USAGE.size + 256].decode("utf-8", "replace")


def pack(kind: int, meta: bytes, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEAD.pack(kind, len(meta), len(payload)) + meta + payload
