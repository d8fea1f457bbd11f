"""The native Python runtime: loads the handler and serves invocations with AWS's rules, error types and texts.

Source of the texts: the errors that AWS's managed Python runtimes answer with. One invocation at a time, on one thread;
the loop reads a frame, runs the handler, flushes what was printed, answers.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import random
import resource
import socket
import sys
import threading
import time
import traceback
from _imp import is_frozen
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from marshal import loads as load_code
from typing import Any, Callable, Dict, List, Optional, Tuple

# The zygote has loaded these beside us, under names that no function's own module has.
wire: Any = importlib.import_module("_lambent_wire")
documents: Any = importlib.import_module("_lambent_documents")
guestlogs: Any = importlib.import_module("_lambent_guestlogs")

_HERE = os.path.dirname(os.path.abspath(__file__))
_FROZEN = "<frozen importlib"
_WARM = frozenset(sys.modules)  # what the zygote has imported
# AWS's runtime has these before the handler as well; a function cannot replace them there either.
_KEPT_NAMES = """
    sys os io json logging re time traceback types importlib random socket gc resource codecs contextlib
"""
_KEPT = frozenset(_KEPT_NAMES.split())

_UNCHECKED = MAGIC_NUMBER + b"\1\0\0\0"  # how code begins that is taken without a look at its source

Handler = Callable[[Any, Any], Any]


class Fault(Exception):
    """An error of the runtime itself, told by AWS's name for it."""

    def __init__(self, kind: str, message: str, trace: Optional[List[str]] = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.trace = trace or []


class CognitoIdentity:
    """Who called through the mobile SDK: never known here."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id = self.cognito_identity_pool_id = None


class Client:
    """The application part of the client context."""

    def __init__(self, values: Dict[str, Any]) -> None:
        for name in ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"):
            setattr(self, name, values.get(name))


class ClientContext:
    """The client context, as the caller sent it."""

    def __init__(self, text: str) -> None:
        values = json.loads(text)
        self.custom, self.env = values.get("custom"), values.get("env")
        client = values.get("client")
        self.client = None if client is None else Client(client)


class LambdaContext:
    """The handler's second argument. Source: docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    def __init__(
        self, static: Dict[str, str], request_id: str, deadline: int, arn: str, client: Optional[str],
        tenant_id: Optional[str],
    ) -> None:  # fmt: skip
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.function_name = static["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = static["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = static["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = static["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = static["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = CognitoIdentity()
        self.client_context = ClientContext(client) if client else None
        self.tenant_id = tenant_id
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline - int(time.time() * 1000))

    def log(self, message: Any) -> None:
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        fields = ",".join("%s=%s" % (key, value) for key, value in vars(self).items() if not key.startswith("_"))
        return "LambdaContext([%s])" % fields


def marshal(result: Any) -> bytes:
    """The response body for a handler's result."""
    if isinstance(result, bytes):
        return result
    try:
        text: str = documents.write(result)
        return text.encode("utf-8")
    except Exception as error:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from error


def _lies_in(module: Any, folder: str) -> bool:
    """Whether a module comes from a folder already: `sitecustomize`, by which wrappers instrument, has imported it, and
    may have changed it."""
    places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None) or ""]
    return any(place.startswith(folder + "/") for place in places)


def load_compiled(name: str, root: str) -> Any:
    """Import a module that lies in the package's root as one source, compiled when the package was unpacked.

    What the import system would do, without its search: that runs a lot of code which a sandbox need not take a copy
    of. None: it is not as simple as that.
    """
    entries = os.listdir(root)
    if name in sys.modules or name in entries or is_frozen(name):
        return None
    if [entry for entry in entries if entry.startswith(name + ".")] != [name + ".py"]:
        return None
    path = "%s/%s.py" % (root, name)
    cached = "%s/__pycache__/%s.%s.pyc" % (root, name, sys.implementation.cache_tag)
    try:
        descriptor = os.open(cached, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size)
    finally:
        os.close(descriptor)
    if data[:8] != _UNCHECKED or len(data) != size:
        return None
    code = load_code(memoryview(data)[16:])
    if code.co_filename != path:
        return None
    loader = SourceFileLoader(name, path)
    spec: Any = ModuleSpec(name, loader, origin=path)
    spec._set_fileattr = True  # it has a location
    spec.cached = cached
    module = type(sys)(name)
    module.__dict__.update(
        __spec__=spec, __loader__=loader, __package__="", __file__=path, __cached__=cached, __builtins__=__builtins__
    )
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules[name]


def load_handler(handler: str, root: str) -> Handler:
    """Import the module and find the handler in it. Raises Fault, or whatever the module raised."""
    name, dot, attribute = handler.rpartition(".")
    if not dot:
        message = "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler
        raise Fault("Runtime.MalformedHandlerName", message)
    if name in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % name)
    try:
        module = load_compiled(name, root) or importlib.import_module(name.replace("/", "."))
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (name, error)) from error
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        message = "Syntax error in module '%s': %s" % (name, error)
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from error
    try:
        found: Handler = getattr(module, attribute)
    except AttributeError as error:
        message = "Handler '%s' missing on module '%s'" % (attribute, name)
        raise Fault("Runtime.HandlerNotFound", message) from error
    return found


def describe(error: BaseException) -> Tuple[str, str, List[str]]:
    """Type, message and stack of an error; frames of this runtime and of the import machinery are left out."""
    if isinstance(error, Fault):
        return error.kind, str(error), error.trace
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_HERE) and not frame.filename.startswith(_FROZEN)
    ]
    frames = [f for f in frames if not f.filename.endswith(os.sep + "importlib" + os.sep + "__init__.py")]
    return type(error).__name__, message_of(error), traceback.format_list(frames)


def message_of(error: BaseException) -> str:
    """What an error says; nothing where it fails to."""
    try:
        return str(error)
    except Exception:
        return ""


def report_crash() -> None:
    """Tell the log how the process ends, as an interpreter does."""
    kind, error, trace = sys.exc_info()
    if kind is not None and not issubclass(kind, SystemExit):
        os.write(2, "".join(traceback.format_exception(kind, error, trace)).encode("utf-8", "replace"))


class Server:
    """One function in one process."""

    def __init__(self) -> None:
        self.channel: Any = None
        self.buffer = bytearray()
        self.handler: Optional[Handler] = None
        self.request_id = ""
        self.static: Dict[str, str] = {}
        self.tenant_id: Optional[str] = None  # the one that this process is for; None: the function keeps none apart
        self.response_limit = 0
        self.json_logs = False
        self.restore: Callable[[Dict[str, Any]], bool] = lambda _: False  # snapshot.py puts another in its place
        self.image: Any = None  # image.py; None: there is none on this machine
        self.outputs = {as_json: guestlogs.handler(self, as_json) for as_json in (False, True)}

    def read(self) -> Optional[Tuple[int, bytes, bytes]]:
        """The next frame; None: the worker is gone."""
        buffer = self.buffer
        head = wire.HEAD.size
        need = head
        if not buffer:
            data = self.channel.recv(65536)
            if len(data) >= head:
                kind, meta, payload = wire.HEAD.unpack_from(data)
                need = head + meta + payload
                if len(data) == need:  # nearly always: one whole frame
                    return kind, data[head : head + meta], data[head + meta :]
            elif not data:
                return None
            buffer += data
        while True:
            if len(buffer) >= head:
                kind, meta, payload = wire.HEAD.unpack_from(buffer)
                need = head + meta + payload
                if len(buffer) >= need:
                    result = kind, bytes(buffer[head : head + meta]), bytes(buffer[head + meta : need])
                    del buffer[:need]
                    return result
            data = self.channel.recv(min(max(65536, need - len(buffer)), 1 << 20))
            if not data:
                return None
            buffer += data

    def send(self, kind: int, extra: bytes, payload: bytes) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105 on the warm path a context manager would cost more than all else here
                stream.flush()
            except Exception:
                pass  # the function has put something else, or nothing, in its place
        self.post(kind, extra, payload)

    def post(self, kind: int, extra: bytes, payload: bytes) -> None:
        """Tell the worker; nothing is printed from here on."""
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.channel.sendall(wire.pack(kind, wire.USAGE.pack(usage) + extra, payload))

    def run(self) -> int:
        while True:
            frame = self.read()
            if frame is None:
                return 0
            kind, meta, payload = frame
            if kind == wire.INVOKE:
                self.invoke(meta, payload)
            elif kind == wire.REST and self.image is not None:
                self.image.give_back()
            else:
                begin = {wire.INIT: self.init, wire.RESTORE: self.restore}.get(kind)
                if begin is not None and not begin(documents.parse(meta)):
                    return 1

    def init(self, task: Dict[str, Any]) -> bool:
        if not self.load(task):
            return False
        self.send(wire.READY, b"", b"")
        return True

    def take_environ(self, environ: Dict[str, str]) -> None:
        """Become the environment that these variables describe."""
        if "TMPDIR" in os.environ:  # set by the claim where /tmp is not the sandbox's own
            environ.setdefault("TMPDIR", os.environ["TMPDIR"])
        for name in list(os.environ):
            del os.environ[name]
        for name, value in environ.items():
            os.environ[name] = value
        time.tzset()
        self.static = dict(environ)

    def load(self, task: Dict[str, Any]) -> bool:
        """Become the function that the task describes; False: the worker has been told why that cannot be."""
        environ: Dict[str, str] = task["environ"]
        root: str = task["task_root"]
        self.take_environ(environ)
        random.seed()
        _main_thread._native_id = os.getpid()  # it was forked without Python's hooks
        self.response_limit, self.tenant_id = task["response_limit"], task.get("tenant_id")
        self.json_logs = environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
        self.settle_imports(root, task["opt_root"], task["runtime_root"])
        self.settle_logging(environ)
        gc.enable()
        try:
            self.handler = load_handler(task["handler"], root)
        except Exception as error:
            self.refuse(error)
            return False
        return True

    def refuse(self, error: BaseException) -> None:
        """Tell the worker why this process cannot serve."""
        kind, document = self.failure(error, "")
        self.send(wire.INIT_ERROR, kind.encode(), document)

    def settle_imports(self, root: str, opt: str, sdks: str) -> None:
        version = "python%d.%d" % sys.version_info[:2]
        standard = [path for path in sys.path if path and not path.startswith(_HERE)]
        brought = [root, "%s/python/lib/%s/site-packages" % (opt, version), opt + "/python"]
        named = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path != sdks]
        sys.path[:] = [*brought, *named, *(path for path in standard if path not in named), sdks]
        for folder in brought + named:
            try:
                entries = os.listdir(folder)
            except OSError:
                continue  # there are no layers, or none for Python
            for entry in entries:
                name = entry.partition(".")[0]
                if name in _WARM and name not in _KEPT and not _lies_in(sys.modules.get(name), folder):
                    sys.modules.pop(name, None)  # package or layer bring their own

    def settle_logging(self, environ: Dict[str, str]) -> None:
        import logging

        root = logging.getLogger()
        root.handlers[:] = [self.outputs[self.json_logs]]
        level = environ.get("AWS_LAMBDA_LOG_LEVEL", "") if self.json_logs else ""
        if level:
            root.setLevel(guestlogs.LEVELS.get(level, logging.INFO))
        logging.logProcesses = False
        logging.logThreads = False

    def invoke(self, meta: bytes, payload: bytes) -> None:
        request_id, deadline, arn, trace, client = documents.parse(meta)
        self.request_id = request_id
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        elif "_X_AMZN_TRACE_ID" in os.environ:
            del os.environ["_X_AMZN_TRACE_ID"]
        try:
            try:
                event = documents.parse(payload) if payload else {}
            except ValueError as error:
                raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from error
            try:
                context = LambdaContext(self.static, request_id, deadline, arn, client, self.tenant_id)
            except Exception as error:
                message = "Unable to parse Client Context JSON: %s" % error
                raise Fault("Runtime.LambdaContextUnmarshalError", message) from error
            response = marshal(self.handler(event, context))  # type: ignore[misc]
            if len(response) > self.response_limit:
                message = "Response payload size exceeded maximum allowed payload size (%d bytes)."
                message %= self.response_limit
                document = {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}
                self.send(wire.ERROR, b"Function.ResponseSizeTooLarge", json.dumps(document).encode())
            else:
                self.send(wire.RESPONSE, b"", response)
        except Exception as error:
            kind, document_bytes = self.failure(error, request_id)
            self.send(wire.ERROR, kind.encode("utf-8", "replace"), document_bytes)

    def failure(self, error: BaseException, request_id: str) -> Tuple[str, bytes]:
        """Log an error and make its document."""
        kind, message, stack = describe(error)
        with contextlib.suppress(Exception):  # the function has replaced its standard output
            self.log_failure(kind, message, stack, request_id)
        document = {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": stack}
        body = json.dumps(document, ensure_ascii=documents.ENSURE_ASCII).encode("utf-8", "replace")
        if self.response_limit and len(body) > self.response_limit:
            document.update(errorMessage=message[:4096], stackTrace=[])
            body = json.dumps(document).encode()
        return kind, body

    def log_failure(self, kind: str, message: str, stack: List[str], request_id: str) -> None:
        if self.json_logs:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = {"timestamp": moment, "level": "ERROR", "message": message, "requestId": request_id}
            if self.tenant_id is not None:
                line["tenantId"] = self.tenant_id
            line.update({"errorType": kind, "errorMessage": message})
            text = json.dumps({**line, "stackTrace": stack})
        else:
            text = "[ERROR] %s: %s" % (kind, message)
            if stack:
                # Leading blanks as no-break spaces: log viewers cut ordinary ones off.
                lines = [row.replace("  ", "\u00a0\u00a0") for entry in stack for row in entry.splitlines()]
                text = "\n".join([text, "Traceback (most recent call last):", *lines])
        guestlogs.write_record(text)


_main_thread: Any = threading.main_thread()
_server = Server()  # made in the zygote: a sandbox gives it its channel


def open_streams() -> None:
    """Standard output and error over descriptors 1 and 2 as they are now, flushed at every line."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def serve(channel: socket.socket) -> int:
    """Serve until the worker is gone or the function's process ends; answers the exit status."""
    _server.channel = channel
    return ended(_server.run)


def ended(run: Callable[[], int]) -> int:
    """Run to the process's end, whichever way it comes; answers the exit status."""
    try:
        code = run()
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else 0 if request.code is None else 1
        if request.code is not None and not isinstance(request.code, int):
            print(request.code, file=sys.stderr)
    except BaseException:
        report_crash()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return code & 0xFF
