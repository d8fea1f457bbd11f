"""Where a zygote runs a function before there is one, rehearsal.py: often enough that the interpreter has adapted its
code to what sandboxes do and has made what it makes once.

Done here, those pages stay shared between all sandboxes, and first invocations are as fast as later ones.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import socket
import sys
from typing import Any, List, Tuple

documents: Any = importlib.import_module("_lambent_documents")
precompile: Any = importlib.import_module("_lambent_precompile")
runtime: Any = importlib.import_module("_lambent_runtime")
wire: Any = importlib.import_module("_lambent_wire")

_HERE = os.path.dirname(os.path.abspath(__file__))
_FUNCTION = "rehearsal"
_TIMES = 64
_INITS = 16  # of them begin with an init
_NAMES = ("FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME", "LOG_STREAM_NAME")
_INVOKE = wire.pack(
    wire.INVOKE,
    json.dumps(["r", 0, "arn", "Root=1", None]).encode(),
    json.dumps({"key": "value", "list": [1, 1.5, None]}).encode(),
)


class Stage:
    """The function as it lies in a package that has been unpacked, and what it is told."""

    def __init__(self, within: str) -> None:
        """`within`: a folder that the package can be laid out in."""
        self.folders: List[int] = []  # open ones: the package's, and the one that it lies in
        self.name = ""  # in there
        self.root = _HERE  # where nothing can be written, the function is run from where it is
        with contextlib.suppress(OSError):
            self.build(within)

    def build(self, within: str) -> None:
        """Lay the package out, so that it can be found when the root is another one."""
        self.name = "stage-%d" % os.getpid()
        made = os.path.join(within, self.name)
        os.mkdir(made, 0o700)
        for folder in (made, within):
            self.folders.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        root = "/proc/self/fd/%d" % self.folders[0]
        path = os.path.join(root, _FUNCTION + ".py")
        shutil.copyfile(os.path.join(_HERE, _FUNCTION + ".py"), path)
        precompile.compile_one(root, path, root)
        self.root = root

    def begin(self, handler: str) -> bytes:
        """The frame that makes a process this function."""
        task = {
            "handler": "%s.%s" % (_FUNCTION, handler),
            "environ": {"TZ": ":UTC", **{"AWS_LAMBDA_" + name: "" for name in _NAMES}},
            "task_root": self.root,
            "runtime_root": "/var/runtime",
            "opt_root": "/opt",
            "response_limit": 1 << 20,
        }
        frame: bytes = wire.pack(wire.INIT, json.dumps(task).encode())
        return frame

    def rehearse(self) -> None:
        """Play a worker and a function at once, and leave everything as it was."""
        near, far = socket.socketpair()
        read, write = os.pipe()
        saved = _redirect(write)  # streams look at what they are opened on: pipes, as in every sandbox
        runtime.open_streams()
        standard, known = sys.path[:], set(sys.modules)
        server, begin = runtime._server, self.begin("handler")
        server.channel = far
        for number in range(_TIMES):
            if number < _INITS:
                sys.modules.pop(_FUNCTION, None)
                near.sendall(begin)
                server.init(documents.parse(server.read()[1]))
                near.recv(65536)
                sys.path[:] = standard
            near.sendall(_INVOKE)
            _, meta, payload = server.read()
            server.invoke(meta, payload)
            near.recv(65536)
            os.read(read, 65536)
        gc.disable()
        for name in list(os.environ):
            del os.environ[name]
        for name in set(sys.modules) - known:
            del sys.modules[name]
        for path in list(sys.path_importer_cache):
            if path not in standard or path in (_HERE, self.root):
                del sys.path_importer_cache[path]  # what is there will be another's
        server.handler, server.static, server.request_id, server.channel = None, {}, "", None
        _restore(saved)
        os.close(read)
        os.close(write)
        near.close()
        far.close()

    def show(self, image: Any) -> None:
        """Let an image learn what one run writes to, from the first frame to the first answer. Raises OSError."""
        near, far = socket.socketpair()
        near.sendall(self.begin("quiet") + _INVOKE)
        near.shutdown(socket.SHUT_WR)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        saved = _redirect(nowhere)
        image.learn(lambda: runtime.serve(far))
        _restore(saved)
        os.close(nowhere)
        near.close()
        far.close()

    def close(self) -> None:
        """Nothing is played any more."""
        if self.root != _HERE:
            with contextlib.suppress(OSError):
                shutil.rmtree(os.path.join(self.root, "__pycache__"))
                os.unlink(os.path.join(self.root, _FUNCTION + ".py"))
                os.rmdir(self.name, dir_fd=self.folders[1])
        for descriptor in self.folders:
            os.close(descriptor)


def _redirect(to: int) -> List[Tuple[int, int]]:
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in saved:
        os.dup2(to, number)
    return saved


def _restore(saved: List[Tuple[int, int]]) -> None:
    for number, descriptor in saved:
        os.dup2(descriptor, number)
        os.close(descriptor)
