"""What a sandbox runs when its function brings or needs a program of its own: starts it, watches it, tells its end.

The first process of its pid namespace, as the function's own user. It makes the socket of the Runtime API inside the
sandbox, whatever network that has, and hands it to the worker, which serves it. It starts the extensions, then, at the
worker's word, the runtime; it reaps every process that ends here, and delivers telemetry to extensions, since only from
in here their listeners can be reached.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import queue
import select
import shutil
import signal
import socket
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

kernel: Any = importlib.import_module("_lambent_kernel")
wire: Any = importlib.import_module("_lambent_wire")

PORT = 9001  # where the network is the sandbox's own
_DELIVERY_SECONDS = 5.0
_DELIVERIES = 64  # batches of telemetry that wait; more are dropped
_BACKLOG = 16
_IMAGE_LINE = "IMAGE\tLaunch error: %s\tEntry Point: [%s]\tCmd: [%s]\tWorkingDir: [%s]\n"
_POST = (
    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    "Connection: close\r\n\r\n"
)


class Launcher:
    """The processes of one sandbox."""

    def __init__(self, channel: socket.socket, client: Callable[[], Any]) -> None:
        """`client` loads the module of that name, which only a Python function with extensions needs."""
        self.channel = channel
        self.client = client
        self.buffer = bytearray()
        self.task: Dict[str, Any] = {}
        self.environ: Dict[str, str] = {}
        self.runtime = 0  # its pid; 0: not started
        self.extensions: Dict[int, str] = {}  # pid → name
        self.telemetry = -1  # write end of the pipe for framed records
        self.output = -1  # write end of the pipe that extensions print to
        self.deliveries: "queue.Queue[Tuple[int, str, str, bytes]]" = queue.Queue(_DELIVERIES)
        self.deliverer: Optional[threading.Thread] = None
        self.wake_read = -1

    def send(self, kind: int, meta: Dict[str, Any], descriptors: Tuple[int, ...] = ()) -> None:
        frame = wire.pack(kind, json.dumps(meta).encode())
        if descriptors:
            frame = frame[kernel.send(self.channel, frame, descriptors) :]
        if frame:
            self.channel.sendall(frame)

    def run(self) -> int:
        self.wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        poll.register(self.wake_read, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self.wake_read:
                    os.read(self.wake_read, 4096)
                    self.reap()
                elif not self.receive():
                    return 0

    def receive(self) -> bool:
        data = self.channel.recv(65536)
        if not data:
            return False
        self.buffer += data
        head = wire.HEAD.size
        while len(self.buffer) >= head:
            kind, meta, payload = wire.HEAD.unpack_from(self.buffer)
            end = head + meta + payload
            if len(self.buffer) < end:
                break
            first, rest = bytes(self.buffer[head : head + meta]), bytes(self.buffer[head + meta : end])
            del self.buffer[:end]
            self.frame(kind, json.loads(first) if first else {}, rest)
        return True

    def frame(self, kind: int, meta: Dict[str, Any], payload: bytes) -> None:
        if kind == wire.INIT:
            self.begin(meta)
        elif kind == wire.START:
            self.start_runtime()
        elif kind == wire.SIGNAL and self.runtime:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.runtime, meta["signal"])
        elif kind == wire.DELIVER:
            self.deliver(meta["port"], meta["path"], meta["type"], payload)

    def begin(self, task: Dict[str, Any]) -> None:
        self.task = task
        self.environ = task["environ"]
        if "TMPDIR" in os.environ:  # set by the claim where /tmp is not the sandbox's own
            self.environ.setdefault("TMPDIR", os.environ["TMPDIR"])
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(("127.0.0.1", PORT if task["own_network"] else 0))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            self.failed("the socket of the Runtime API", error)
            return
        port = listener.getsockname()[1]
        self.environ["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:%d" % port
        read, self.telemetry = os.pipe2(os.O_CLOEXEC)
        heard, self.output = os.pipe2(os.O_CLOEXEC)
        names = self.find_extensions()
        self.send(wire.LISTENING, {"port": port, "extensions": names}, (listener.fileno(), read, heard))
        listener.close()
        os.close(read)
        os.close(heard)
        for name in names:
            path = os.path.join(task["extensions"], name)
            try:
                pid = self.spawn([path], self.extension_environ(), telemetry=False)
            except OSError as error:
                kind = "PermissionDenied" if error.errno == errno.EACCES else "LaunchError"
                text = "fork/exec %s: %s" % (path, (error.strerror or "").lower())
                self.send(wire.LAUNCH_FAILED, {"type": "Extension." + kind, "message": text})
                return
            self.extensions[pid] = name
        if not names:
            self.start_runtime()

    def find_extensions(self) -> List[str]:
        folder = self.task["extensions"]
        try:
            entries = [entry for entry in os.scandir(folder) if not entry.is_dir()]
        except OSError:
            return []
        return sorted(entry.name for entry in entries)

    def extension_environ(self) -> Dict[str, str]:
        hidden = self.task["hidden_from_extensions"]
        return {name: value for name, value in self.environ.items() if name not in hidden}

    def start_runtime(self) -> None:
        if self.runtime:
            return
        if self.task["python"] is not None:
            self.runtime = self.fork_python()
            return
        candidates: List[List[str]] = self.task["commands"]
        image = self.task["image"]
        if image is not None:
            try:
                os.chdir(image["directory"])
            except OSError as error:
                self.failed("chdir %s" % image["directory"], error, "Runtime.InvalidWorkingDir")
                return
            command = [*image["entry_point"], *image["command"]]
            if command:
                # Where it is not found it is tried as it is named, and told so.
                command[0] = shutil.which(command[0], path=self.environ.get("PATH", "")) or command[0]
                candidates = [command]
        found = [command for command in candidates if os.path.lexists(command[0])]
        if not found:
            tried = " ".join(command[0] for command in candidates)
            self.give_up("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [%s]" % tried)
            return
        command = found[0]
        try:
            self.runtime = self.spawn(command, self.environ, telemetry=True)
        except OSError as error:
            self.failed("fork/exec %s" % command[0], error)

    def fork_python(self) -> int:
        """The Python runtime of our own: this process has it already."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.channel.close()
            client = self.client()
            code = client.serve({**self.task["python"], "environ": self.environ})
        finally:
            os._exit(code)

    def failed(self, what: str, error: OSError, kind: str = "Runtime.InvalidEntrypoint") -> None:
        self.give_up(kind, "%s: %s" % (what, (error.strerror or str(error)).lower()))

    def give_up(self, kind: str, text: str) -> None:
        image = self.task["image"]
        if image is not None:  # as AWS's log has it
            entry, command = " ".join(image["entry_point"]), " ".join(image["command"])
            line = _IMAGE_LINE % (text, entry, command, image["directory"])
            os.write(1, line.encode("utf-8", "replace"))
        self.send(wire.LAUNCH_FAILED, {"type": kind, "message": text})

    def spawn(self, command: List[str], environ: Dict[str, str], telemetry: bool) -> int:
        """Start a program. Raises OSError where it cannot. `telemetry`: it is the runtime, not an extension, and may
        frame its records; its output goes where ours goes."""
        actions: List[Tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        if telemetry:
            os.set_inheritable(self.telemetry, True)
            environ = {**environ, "_LAMBDA_TELEMETRY_LOG_FD": str(self.telemetry)}
        else:
            actions += [(os.POSIX_SPAWN_DUP2, self.output, number) for number in (1, 2)]
        try:
            return os.posix_spawn(
                command[0],
                command,
                environ,
                setsigdef=[signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ],
                file_actions=actions,
            )
        finally:
            if telemetry:
                os.set_inheritable(self.telemetry, False)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            killed = os.WIFSIGNALED(status)
            told = {
                "status": None if killed else os.WEXITSTATUS(status),
                "signal": os.WTERMSIG(status) if killed else None,
            }
            if pid == self.runtime:
                self.runtime = 0
                self.send(wire.RUNTIME_EXITED, told)
            elif pid in self.extensions:
                self.send(wire.EXTENSION_EXITED, {"name": self.extensions.pop(pid), **told})

    # Telemetry

    def deliver(self, port: int, path: str, kind: str, payload: bytes) -> None:
        if self.deliverer is None:
            self.deliverer = threading.Thread(target=self.post_all, name="telemetry", daemon=True)
            self.deliverer.start()
        with contextlib.suppress(queue.Full):
            self.deliveries.put_nowait((port, path, kind, payload))

    def post_all(self) -> None:
        # By hand: within an image there is no module to import any more.
        while True:
            port, path, kind, payload = self.deliveries.get()
            with contextlib.suppress(OSError), socket.socket() as connection:
                connection.settimeout(_DELIVERY_SECONDS)
                connection.connect(("127.0.0.1", port))
                if kind == "TCP":
                    connection.sendall(payload)
                    continue
                head = _POST % (path, port, len(payload))
                connection.sendall(head.encode("ascii", "replace") + payload)
                while connection.recv(65536):
                    pass  # an answer is wanted, whatever it says


def serve(channel: socket.socket, client: Callable[[], Any]) -> int:
    """Serve until the worker is gone; answers the exit status."""
    return Launcher(channel, client).run()
