"""Functions that bring their own runtime, or need one that speaks HTTP: the Runtime API with real programs.

The programs are the ones that people bring: a shell script, a script around AWS's own Python client, a compiled one.
"""

from __future__ import annotations

import io
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import awslambdaric  # type: ignore[import-untyped]
import pytest

from tests.integration.test_worker_cluster import Cluster, cluster_of

INTERPRETER = Path(sys.executable).resolve()
PYTHON = f"#!{INTERPRETER} -S\n"
# A runtime in thirty lines, of which each test needs a little: `call` says one HTTP request and reads its answer.
CLIENT = PYTHON + (
    "import http.client, json, os, sys, time\n"
    "api = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
    "BASE = '/2018-06-01/runtime/'\n"
    "def call(method, path, body=None, headers={}):\n"
    "    api.request(method, path if path[0] == '/' else BASE + path, body, headers)\n"
    "    answer = api.getresponse()\n"
    "    return answer.status, dict(answer.getheaders()), answer.read()\n"
    "def next():\n"
    "    _, headers, body = call('GET', 'invocation/next')\n"
    "    return headers['Lambda-Runtime-Aws-Request-Id'], headers, body\n"
    "def respond(request, value):\n"
    "    return call('POST', f'invocation/{request}/response', json.dumps(value))\n"
)


def packed(files: dict[str, str | bytes]) -> bytes:
    """A package whose programs may be executed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(info, data)
    return out.getvalue()


async def deploy(cluster: Cluster, files: dict[str, str | bytes], **fields: Any) -> str:
    values = {"runtime": "provided.al2023", "handler": "any", "code_sha256": cluster.code.put(packed(files)), **fields}
    return await cluster.deploy({}, **values)


async def test_a_bootstrap_of_its_own_serves_invocations(cluster: Cluster) -> None:
    source = CLIENT + (
        "while True:\n"
        "    request, headers, body = next()\n"
        "    print('event', body.decode(), flush=True)\n"
        "    respond(request, {'headers': headers, 'event': json.loads(body), 'env': dict(os.environ)})\n"
    )
    identity = await deploy(cluster, {"bootstrap": source}, tenant_id="blue")
    answer = await cluster.invoke(identity, {"n": 1}, request_id="r-1", trace="Root=1-5", client_context='{"a": 1}')
    headers, env = answer.json["headers"], answer.json["env"]
    assert answer.json["event"] == {"n": 1}
    assert headers["Lambda-Runtime-Aws-Request-Id"] == "r-1"
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1-5"
    assert headers["Lambda-Runtime-Client-Context"] == '{"a": 1}'
    assert headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:fn")
    assert headers["Lambda-Runtime-Aws-Tenant-Id"] == "blue"
    assert headers["Content-Type"] == "application/json"
    assert env["_HANDLER"] == "any"
    assert "AWS_EXECUTION_ENV" not in env
    assert answer.result.init_ms is not None
    assert 'event {"n": 1}\n' in answer.tail
    again = await cluster.invoke(identity, {"n": 2})
    assert (again.json["event"], again.result.init_ms) == ({"n": 2}, None)
    assert again.result.memory_mb > 0


async def test_every_call_out_of_its_turn_is_refused_as_awss_api_refuses_it(cluster: Cluster) -> None:
    source = CLIENT + (
        "def told(*arguments):\n"
        "    status, headers, body = call(*arguments)\n"
        "    return [status, json.loads(body).get('errorType', json.loads(body).get('status'))]\n"
        "early = [told('POST', 'invocation/none/response', '1')]\n"
        "request, headers, body = next()\n"
        "seen = {\n"
        "    'response before an event': early[0],\n"
        "    'another request': told('POST', 'invocation/other/response', '1'),\n"
        "    'error of another request': told('POST', 'invocation/other/error', '{}'),\n"
        "    'next while running': told('GET', 'invocation/next'),\n"
        "    'init error while running': told('POST', 'init/error', '{}'),\n"
        "    'restore': told('GET', 'restore/next'),\n"
        "    'unknown path': told('GET', 'nothing'),\n"
        "    'unknown verb': told('DELETE', 'invocation/next'),\n"
        "    'too large': told('POST', 'restore/error', 'x' * 70000),\n"
        "    'ping': call('GET', '/2018-06-01/ping')[0],\n"
        "}\n"
        "seen['answer'] = respond(request, seen)[0]\n"
        "seen['second answer'] = told('POST', f'invocation/{request}/response', '2')\n"
        "request, headers, body = next()\n"
        "respond(request, seen)\n"
        "next()\n"
    )
    identity = await deploy(cluster, {"bootstrap": source})
    await cluster.invoke(identity)
    seen = (await cluster.invoke(identity)).json
    assert seen == {
        "response before an event": [400, "InvalidRequestID"],
        "another request": [400, "InvalidRequestID"],
        "error of another request": [400, "InvalidRequestID"],
        "next while running": [403, "InvalidStateTransition"],
        "init error while running": [403, "InvalidStateTransition"],
        "restore": [403, "InvalidStateTransition"],
        "unknown path": [404, "NotFound"],
        "unknown verb": [405, "MethodNotAllowed"],
        "too large": [413, "RequestEntityTooLarge"],
        "ping": 200,
        "answer": 202,
        "second answer": [403, "InvalidStateTransition"],
    }


LAUNCHES: dict[str, tuple[dict[str, str | bytes], str, str]] = {
    "no bootstrap": (
        {"app": ""},
        "Runtime.InvalidEntrypoint",
        "Couldn't find valid bootstrap(s): [/var/task/bootstrap",
    ),
    "no interpreter": (
        {"bootstrap": "#!/nothing/there\n"},
        "Runtime.InvalidEntrypoint",
        "fork/exec /var/task/bootstrap: no such file or directory",
    ),
    "no program": (
        {"bootstrap": b"\x7fELF nonsense"},
        "Runtime.InvalidEntrypoint",
        "fork/exec /var/task/bootstrap: exec format error",
    ),
    "ends": ({"bootstrap": "#!/bin/sh\nexit 7\n"}, "Runtime.ExitError", "Runtime exited with error: exit status 7"),
    "killed": (
        {"bootstrap": "#!/bin/sh\nkill -9 $$\n"},
        "Runtime.ExitError",
        "Runtime exited with error: signal: killed",
    ),
}


@pytest.mark.parametrize("name", LAUNCHES)
async def test_a_runtime_that_does_not_start_is_told_at_the_first_invocation(cluster: Cluster, name: str) -> None:
    files, kind, text = LAUNCHES[name]
    identity = await deploy(cluster, files)
    document = (await cluster.invoke(identity, request_id="r-1")).json
    root = "" if cluster.worker.pool.level == "process" else text
    assert document["errorType"] == kind
    assert document["errorMessage"].startswith(f"RequestId: r-1 Error: {root}")


async def test_a_runtime_tells_errors_and_what_it_told_is_the_answer(cluster: Cluster) -> None:
    source = CLIENT + (
        "while True:\n"
        "    request, headers, body = next()\n"
        "    how = json.loads(body)\n"
        "    if how == 'error':\n"
        "        document = json.dumps({'errorType': 'Boom', 'errorMessage': 'bang', 'stackTrace': []})\n"
        "        call('POST', f'invocation/{request}/error', document, {'Lambda-Runtime-Function-Error-Type': 'Unhandled'})\n"
        "    elif how == 'large':\n"
        "        size = 6 * 1024 * 1024 + 101\n"
        "        print(call('POST', f'invocation/{request}/response', 'x' * size), flush=True)\n"
        "    elif how == 'exit':\n"
        "        sys.exit(3)\n"
        "    elif how == 'hang':\n"
        "        open('/tmp/kept', 'w').close()\n"
        "        time.sleep(60)\n"
        "    else:\n"
        "        respond(request, os.path.exists('/tmp/kept'))\n"
    )
    identity = await deploy(cluster, {"bootstrap": source}, timeout_seconds=1)
    error = await cluster.invoke(identity, "error")
    assert (error.result.error, error.result.error_type) == ("Unhandled", "Boom")
    assert error.json == {"errorType": "Boom", "errorMessage": "bang", "stackTrace": []}
    large = await cluster.invoke(identity, "large")
    assert large.result.error_type == "Function.ResponseSizeTooLarge"
    assert "maximum allowed payload size (6291556 bytes)" in large.json["errorMessage"]
    gone = await cluster.invoke(identity, "exit", request_id="r-9")
    assert gone.json["errorMessage"] == "RequestId: r-9 Error: Runtime exited with error: exit status 3"
    late = await cluster.invoke(identity, "hang")
    assert late.result.error_type == "Sandbox.Timedout"
    if cluster.worker.pool.level != "process":
        assert (await cluster.invoke(identity, "kept")).json is True


async def test_init_errors_are_answered_and_the_next_invocation_tries_again(cluster: Cluster) -> None:
    source = CLIENT + (
        "call('POST', 'init/error', json.dumps({'errorType': 'Config', 'errorMessage': 'no table'}))\nsys.exit(1)\n"
    )
    identity = await deploy(cluster, {"bootstrap": source})
    for _ in range(2):
        assert (await cluster.invoke(identity)).json == {"errorType": "Config", "errorMessage": "no table"}


async def test_a_runtime_that_goes_on_after_its_answer_delays_only_what_comes_next(cluster: Cluster) -> None:
    source = CLIENT + (
        "request, headers, body = next()\n"
        "respond(request, 'first')\n"
        "time.sleep(0.5)\n"
        "print('went on', flush=True)\n"
        "request, headers, body = next()\n"
        "respond(request, int(headers['Lambda-Runtime-Deadline-Ms']) - int(time.time() * 1000) > 2800)\n"
        "time.sleep(30)\n"
    )
    identity = await deploy(cluster, {"bootstrap": source}, timeout_seconds=3)
    first = await cluster.invoke(identity)
    assert first.json == "first"
    assert "went on" not in first.tail
    assert first.result.duration_ms < 400
    # All of its own time is before it, and none of it has passed while it waited.
    second = await cluster.invoke(identity)
    assert (second.json, second.result.error) == (True, None)


async def test_a_sandbox_reaches_no_other_sandboxs_runtime_api(cluster: Cluster) -> None:
    if cluster.worker.pool.level == "process":
        pytest.skip("all sandboxes have one user at the level process")
    victim = await deploy(cluster, {"bootstrap": CLIENT + (
        "request, headers, body = next()\n"
        "respond(request, os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
        "next()\n"
    )})  # fmt: skip
    address = (await cluster.invoke(victim)).json
    thief = await deploy(cluster, {"bootstrap": CLIENT + (
        "request, headers, body = next()\n"
        "try:\n"
        "    other = http.client.HTTPConnection(json.loads(body), timeout=5)\n"
        "    other.request('GET', '/2018-06-01/ping')\n"
        "    seen = other.getresponse().status\n"
        "except Exception as error:\n"
        "    seen = type(error).__name__\n"
        "respond(request, seen)\n"
        "next()\n"
    )})  # fmt: skip
    assert (await cluster.invoke(thief, address)).json in ("ConnectionResetError", "RemoteDisconnected")


GARBAGE = {
    "no http": "b'\\x00\\x01\\x02\\x03\\r\\n\\r\\n'",
    "no end of headers": "b'GET / HTTP/1.1\\r\\nA: ' + b'x' * 2_000_000",
    "no end of trailers": (
        "b'POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\nA: '"
        " + b'x' * 2_000_000"
    ),
    "lies about its length": "b'POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\nContent-Length: 99\\r\\n\\r\\n{}'",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_no_call_harms_nobody(cluster: Cluster, name: str) -> None:
    source = CLIENT + (
        "import socket\n"
        "host, _, port = os.environ['AWS_LAMBDA_RUNTIME_API'].partition(':')\n"
        "request, headers, body = next()\n"
        "def attack():\n"
        "    with socket.create_connection((host, int(port)), 5) as peer:\n"
        f"        peer.sendall({GARBAGE[name]})\n"
        "        peer.shutdown(socket.SHUT_WR)\n"
        "        return peer.recv(100).decode().partition('\\r')[0]\n"
        "try:\n"
        "    said = attack()\n"
        "except OSError as error:\n"
        "    said = type(error).__name__\n"
        "respond(request, said)\n"
        "request, headers, body = next()\n"
        "respond(request, 'still here')\n"
        "next()\n"
    )
    identity = await deploy(cluster, {"bootstrap": source})
    said = (await cluster.invoke(identity)).json
    assert said in (
        "HTTP/1.1 400 Bad Request",
        "HTTP/1.1 431 Request Header Fields Too Large",
        "",
        "ConnectionResetError",
        "OSError",
    )
    assert (await cluster.invoke(identity)).json == "still here"


async def test_a_runtime_that_does_nothing_but_wrong_calls_is_ended(cluster: Cluster) -> None:
    source = CLIENT + "request, headers, body = next()\nwhile True:\n    call('GET', 'nothing')\n"
    identity = await deploy(cluster, {"bootstrap": source}, timeout_seconds=30)
    assert (await cluster.invoke(identity)).result.error_type is not None
    assert (await cluster.invoke(identity)).result.error_type is not None


def awss_python_client() -> dict[str, str | bytes]:
    """AWS's own runtime client with what it needs, as a package brings it."""
    site = Path(awslambdaric.__file__).parent.parent
    found: dict[str, str | bytes] = {}
    for pattern in ("awslambdaric/**/*.py", "snapshot_restore_py/**/*.py", "simplejson/**/*.py", "runtime_client*.so"):
        found.update({str(path.relative_to(site)): path.read_bytes() for path in site.glob(pattern)})
    return found


async def test_awss_python_client_runs_unmodified(cluster: Cluster) -> None:
    files = {
        **awss_python_client(),
        "bootstrap": f"#!/bin/sh\nexec {INTERPRETER} -m awslambdaric app.handler\n",
        "app.py": (
            "import logging\n"
            "def handler(event, context):\n"
            "    print('printed')\n"
            "    logging.getLogger().warning('two\\nlines')\n"
            "    if event == 'raise':\n"
            "        raise ValueError('no')\n"
            "    left = context.get_remaining_time_in_millis()\n"
            "    return [event, context.aws_request_id, context.function_name, 2000 < left <= 3000,"
            " context.client_context.custom]\n"
        ),
    }
    identity = await deploy(cluster, files, variables={"PYTHONPATH": "/var/task"})
    answer = await cluster.invoke(identity, {"é": 1}, request_id="r-1", client_context='{"custom": {"a": 1}}')
    assert answer.json == [{"é": 1}, "r-1", "fn", True, {"a": 1}]
    lines = cluster.log_lines()
    assert "printed" in lines
    record = next(line for line in lines if line.startswith("[WARNING]"))
    assert record.endswith("\tr-1\ttwo\nlines")  # one record, as the client framed it
    failed = await cluster.invoke(identity, "raise", client_context='{"custom": {}}')
    assert (failed.json["errorType"], failed.json["errorMessage"]) == ("ValueError", "no")
    assert failed.result.error_type == "ValueError"


NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node on this machine")


@needs_node
async def test_a_node_function_runs_as_on_aws(tmp_path: Path) -> None:
    assert NODE is not None
    async with cluster_of(tmp_path, interpreters={"nodejs20.x": Path(NODE)}) as cluster:
        source = (
            "const late = (value) => new Promise((done) => setTimeout(done, 5, value));\n"
            "exports.handler = async (event, context) => {\n"
            "  console.log('saw %j', event, '\\nsecond line');\n"
            "  if (event === 'throw') throw new TypeError('no');\n"
            "  if (event === 'reject') { Promise.reject(new RangeError('lost')); await late(1); await late(1); }\n"
            "  return late([event, context.awsRequestId, context.functionName, context.memoryLimitInMB,\n"
            "    context.getRemainingTimeInMillis() > 2000, process.env.AWS_EXECUTION_ENV, context.clientContext]);\n"
            "};\n"
            "exports.callback = (event, context, done) => { setTimeout(() => done(null, 'later'), 5); };\n"
            "exports.plain = () => 'not an answer';\n"
            "exports.nothing = async () => { throw null };\n"
            "exports.never = async () => { await new Promise(() => {}) };\n"
            "exports.early = console.log('at init');\n"
            "exports.constant = 1;\n"
        )
        files: dict[str, str | bytes] = {
            "lib/app.js": source,
            "module.mjs": "export const handler = async () => 'a module';\n",
            "bad.js": "const = 1;\n",
            "lost.js": "require('not-there');\n",
        }

        async def function(handler: str) -> str:
            return await deploy(cluster, files, runtime="nodejs20.x", handler=handler, memory_mb=256)

        main = await function("lib/app.handler")
        answer = await cluster.invoke(main, {"a": 1}, request_id="r-1", client_context='{"custom": 1}')
        assert answer.json == [
            {"a": 1}, "r-1", "fn", "256", True, "AWS_Lambda_nodejs20.x", {"custom": 1},
        ]  # fmt: skip
        assert any(line.endswith('\tr-1\tINFO\tsaw {"a":1} \nsecond line') for line in cluster.log_lines())
        thrown = await cluster.invoke(main, "throw")
        assert (thrown.json["errorType"], thrown.json["errorMessage"]) == ("TypeError", "no")
        assert thrown.json["trace"][0] == "TypeError: no"
        lost = await cluster.invoke(main, "reject")
        assert lost.json["errorType"] == "Runtime.UnhandledPromiseRejection"
        assert (await cluster.invoke(await function("lib/app.callback"))).json == "later"
        assert (await cluster.invoke(await function("lib/app.plain"))).json is None
        assert any(line.endswith("\tundefined\tINFO\tat init") for line in cluster.log_lines())
        rejected = await cluster.invoke(await function("lib/app.nothing"))
        assert (rejected.result.error, rejected.json["errorMessage"]) == ("Unhandled", "handled")
        never = await function("lib/app.never")
        for _ in range(2):  # the environment goes on
            assert (await cluster.invoke(never)).json["errorType"] == "Runtime.NodeJsExit"
        assert (await cluster.invoke(await function("module.handler"))).json == "a module"
        for handler, kind in (
            ("lib/app.missing", "Runtime.HandlerNotFound"),
            ("lib/app.constant", "Runtime.HandlerNotFound"),
            ("lost.handler", "Runtime.ImportModuleError"),
            ("bad.handler", "Runtime.UserCodeSyntaxError"),
            ("nothing", "Runtime.MalformedHandlerName"),
        ):
            assert (await cluster.invoke(await function(handler))).json["errorType"] == kind


async def test_a_runtime_may_come_from_a_layer(cluster: Cluster) -> None:
    source = CLIENT + (
        "while True:\n"
        "    request, headers, body = next()\n"
        "    respond(request, [sys.argv[0], sorted(os.listdir(os.environ['LAMBDA_TASK_ROOT']))])\n"
    )
    lower = cluster.code.put(packed({"bootstrap": "#!/bin/sh\nexit 3\n", "bin/tool": ""}))
    upper = cluster.code.put(packed({"bootstrap": source}))
    identity = await deploy(cluster, {"data.txt": "x"}, layer_sha256=[lower, upper])
    program, files = (await cluster.invoke(identity)).json
    assert files == ["data.txt"]
    assert program.endswith("/bootstrap")
    if cluster.worker.pool.level != "process":
        assert program == "/opt/bootstrap"


@needs_node
async def test_node_modules_may_come_from_a_layer(tmp_path: Path) -> None:
    assert NODE is not None
    async with cluster_of(tmp_path, interpreters={"nodejs20.x": Path(NODE)}) as cluster:
        layer = cluster.code.put(packed({"nodejs/node_modules/part/index.js": "exports.name = 'of a layer';\n"}))
        files: dict[str, str | bytes] = {"app.js": "exports.handler = async () => require('part').name;\n"}
        identity = await deploy(
            cluster, files, runtime="nodejs20.x", handler="app.handler", memory_mb=256, layer_sha256=[layer]
        )
        assert (await cluster.invoke(identity)).json == "of a layer"


async def test_a_runtime_without_an_interpreter_says_so(cluster: Cluster) -> None:
    identity = await deploy(cluster, {"app.js": ""}, runtime="nodejs22.x")
    for _ in range(2):
        document = (await cluster.invoke(identity)).json
        assert document["errorType"] == "Runtime.Unavailable"
        assert "no interpreter for the runtime nodejs22.x" in document["errorMessage"]


async def test_limits_hold_for_a_runtime_that_is_started_in_the_sandbox(cluster: Cluster) -> None:
    source = CLIENT + (
        "import resource\n"
        "while True:\n"
        "    request, headers, body = next()\n"
        "    how = json.loads(body)\n"
        "    if how == 'memory':\n"
        "        hog = bytearray(400 * 1024 * 1024)\n"
        "        hog[::4096] = b'x' * len(hog[::4096])\n"
        "    respond(request, [resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.getuid(), os.getpid()])\n"
    )
    identity = await deploy(cluster, {"bootstrap": source}, timeout_seconds=20)
    files, user, number = (await cluster.invoke(identity)).json
    assert files == 1024
    if cluster.worker.pool.level == "namespaces":
        assert (user >= 200_000, number) == (True, 2)  # the launcher is the first process
    hog = await cluster.invoke(identity, "memory", request_id="r-1")
    assert hog.json["errorMessage"] == "RequestId: r-1 Error: Runtime exited with error: signal: killed"
    assert cluster.records[-1].reason == "OutOfMemory"
    assert (await cluster.invoke(identity)).json[0] == 1024
