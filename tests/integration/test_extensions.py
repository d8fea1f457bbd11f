"""External and internal extensions with real programs: registration, events, shutdown, crashes, telemetry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lambent.internal.v1 import worker_service_pb2 as pb
from tests.integration.test_runtime_api import CLIENT, PYTHON, packed
from tests.integration.test_worker_cluster import ECHO, Cluster, cluster_of

# What every extension of these tests begins with. What it has seen goes to a file that functions can read.
EXTENSION = PYTHON + (
    "import http.client, json, os, sys, time\n"
    "api = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
    "BASE = '/2020-01-01/extension/'\n"
    "me = {}\n"
    "def call(method, path, body=None, headers={}):\n"
    "    text = None if body is None else json.dumps(body)\n"
    "    api.request(method, path if path[0] == '/' else BASE + path, text, {**me, **headers})\n"
    "    answer = api.getresponse()\n"
    "    data = answer.read()\n"
    "    return answer.status, dict(answer.getheaders()), json.loads(data) if data[:1] == b'{' else data.decode()\n"
    "def register(*events, name=os.path.basename(sys.argv[0])):\n"
    "    said = call('POST', 'register', {'events': events},"
    " {'Lambda-Extension-Name': name, 'Lambda-Extension-Accept-Feature': 'accountId'})\n"
    "    if said[0] == 200:\n"
    "        me['Lambda-Extension-Identifier'] = said[1]['Lambda-Extension-Identifier']\n"
    "    return said\n"
    "def note(value):\n"
    "    with open(os.environ.get('TMPDIR', '/tmp') + '/seen', 'a') as file:\n"
    "        file.write(json.dumps(value) + '\\n')\n"
)
READ = (
    "import json, os\n"
    "def handler(event, context):\n"
    "    try:\n"
    "        with open(os.environ.get('TMPDIR', '/tmp') + '/seen') as file:\n"
    "            return [json.loads(line) for line in file]\n"
    "    except OSError:\n"
    "        return []\n"
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path) as made:
        yield made


async def deploy(cluster: Cluster, files: dict[str, str], extensions: dict[str, str], **fields: Any) -> str:
    layer = packed({f"extensions/{name}": source for name, source in extensions.items()})
    return await cluster.deploy(files, layer_sha256=[cluster.code.put(layer)], **fields)


async def test_an_extension_is_told_of_invocations_and_of_the_end(cluster: Cluster, tmp_path: Path) -> None:
    watch = EXTENSION + (
        "said = register('INVOKE', 'SHUTDOWN')\n"
        "note(said[2])\n"
        "note(sorted(name for name in os.environ if name in ('AWS_EXECUTION_ENV', '_HANDLER', 'LAMBDA_TASK_ROOT',"
        " 'AWS_LAMBDA_FUNCTION_NAME', 'AWS_SESSION_TOKEN', 'AWS_ENDPOINT_URL_LAMBDA')))\n"
        "print('the extension is here', flush=True)\n"
        "while True:\n"
        "    event = call('GET', 'event/next')[2]\n"
        "    note({key: event[key] for key in event if key != 'deadlineMs'})\n"
        "    if event['eventType'] == 'SHUTDOWN':\n"
        "        print('said goodbye', flush=True)\n"
        "        sys.exit(0)\n"
    )
    source = {"app.py": READ}
    identity = await deploy(cluster, source, {"watch": watch})
    first = await cluster.invoke(identity, request_id="r-1")
    assert first.result.error is None, first.body
    seen = first.json
    assert seen[0] == {
        "functionName": "fn",
        "functionVersion": "$LATEST",
        "handler": "app.handler",
        "accountId": "123456789012",
    }
    assert seen[1] == ["AWS_ENDPOINT_URL_LAMBDA", "AWS_LAMBDA_FUNCTION_NAME", "AWS_SESSION_TOKEN"]
    again = (await cluster.invoke(identity, request_id="r-2")).json
    arn = "arn:aws:lambda:us-east-1:123456789012:function:fn"
    assert {"eventType": "INVOKE", "requestId": "r-1", "invokedFunctionArn": arn} in again
    cluster.scheduler.order(pb.WorkerInstruction(stop=pb.StopEnvironment(environment_id=identity, reason="x")))
    await cluster.scheduler.until(lambda: identity in cluster.scheduler.gone)
    assert {"the extension is here", "said goodbye"} <= set(cluster.log_lines())


async def test_what_goes_on_in_an_extension_delays_the_next_invocation_and_not_the_answer(cluster: Cluster) -> None:
    slow = EXTENSION + (
        "register('INVOKE')\n"
        "while True:\n"
        "    event = call('GET', 'event/next')[2]\n"
        "    time.sleep(0.4)\n"
        "    note('after ' + event['requestId'])\n"
    )
    identity = await deploy(cluster, {"app.py": READ}, {"slow": slow})
    first = await cluster.invoke(identity, request_id="r-1")
    assert (first.json, first.result.duration_ms < 300) == ([], True)
    assert (await cluster.invoke(identity, request_id="r-2")).json == ["after r-1"]


FAULTS = {
    "ends before it registers": ("sys.exit(3)\n", "Extension.Crash", "exit status 3"),
    "cannot be run": (None, "Extension.LaunchError", "fork/exec"),
    "tells an error at init": (
        "register()\ncall('POST', 'init/error', {}, {'Lambda-Extension-Function-Error-Type': 'Extension.NoKey'})\n"
        "time.sleep(30)\n",
        "Extension.NoKey",
        "the extension has reported an error",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_an_extension_that_fails_fails_the_environment(cluster: Cluster, name: str) -> None:
    source, kind, text = FAULTS[name]
    program = "#!/nothing/there\n" if source is None else EXTENSION + source
    identity = await deploy(cluster, {"app.py": ECHO}, {"bad": program})
    answer = await cluster.invoke(identity)
    assert answer.json["errorType"] == kind
    assert text in answer.json["errorMessage"]


async def test_an_extension_that_ends_later_ends_the_invocation_after_it(cluster: Cluster) -> None:
    brittle = EXTENSION + "register('INVOKE')\ncall('GET', 'event/next')\nsys.exit(1)\n"
    identity = await deploy(
        cluster, {"app.py": "import time\n" + ECHO.replace("return", "time.sleep(1); return")}, {"b": brittle}
    )
    answer = await cluster.invoke(identity)
    assert (answer.json["errorType"], answer.result.reusable) == ("Extension.Crash", True)


async def test_calls_out_of_place_are_refused(cluster: Cluster) -> None:
    odd = EXTENSION + (
        "seen = {}\n"
        "def told(name, said):\n"
        "    seen[name] = [said[0], said[2].get('errorType')]\n"
        "told('no name', call('POST', 'register', {'events': []}))\n"
        "told('no identifier', call('GET', 'event/next'))\n"
        "told('no such event', register('SLEEP'))\n"
        "told('unknown', call('GET', 'event/next', None, {'Lambda-Extension-Identifier': 'nobody'}))\n"
        "register('INVOKE')\n"
        "told('twice', register())\n"
        "told('no type', call('POST', 'exit/error', {}))\n"
        "told('bad port', call('PUT', '/2022-07-01/telemetry', {'types': ['platform'],"
        " 'destination': {'protocol': 'HTTP', 'URI': 'http://example.com:80'}}))\n"
        "call('GET', 'event/next')\n"
        "told('late', register(name='another'))\n"
        "told('late telemetry', call('PUT', '/2022-07-01/telemetry', {'types': ['platform'],"
        " 'destination': {'protocol': 'HTTP', 'URI': 'http://sandbox.localdomain:8080'}}))\n"
        "note(seen)\n"
        "while True:\n"
        "    call('GET', 'event/next')\n"
    )
    identity = await deploy(cluster, {"app.py": READ}, {"odd": odd})
    await cluster.invoke(identity)
    assert (await cluster.invoke(identity)).json[0] == {
        "no name": [403, "Extension.InvalidExtensionName"],
        "no identifier": [403, "Extension.MissingHeader"],
        "no such event": [400, "Extension.InvalidEventType"],
        "unknown": [403, "Extension.UnknownExtensionIdentifier"],
        "twice": [403, "Extension.InvalidExtensionState"],
        "no type": [403, "Extension.MissingHeader"],
        "bad port": [400, "ValidationError"],
        "late": [403, "Extension.RegistrationClosed"],
        "late telemetry": [403, "Telemetry.SubscriptionClosed"],
    }


async def test_telemetry_reaches_the_extension_that_subscribed(cluster: Cluster) -> None:
    listener = EXTENSION + (
        "import http.server, threading\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        data = self.rfile.read(int(self.headers['Content-Length']))\n"
        "        self.send_response(200); self.end_headers()\n"
        "        for event in json.loads(data): note(event)\n"
        "    def log_message(self, *args): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "register('INVOKE')\n"
        "uri = 'http://sandbox.localdomain:%d/' % server.server_port\n"
        "said = call('PUT', '/2022-07-01/telemetry', {'schemaVersion': '2022-12-13', 'types': ['platform', 'function'],"
        " 'buffering': {'timeoutMs': 25}, 'destination': {'protocol': 'HTTP', 'URI': uri}})\n"
        "note(said[0])\n"
        "while True:\n"
        "    call('GET', 'event/next')\n"
        "    time.sleep(0.3)\n"
    )
    source = READ.replace("    try:", "    print('hello from the function')\n    try:")
    identity = await deploy(cluster, {"app.py": source}, {"listener": listener})
    await cluster.invoke(identity, request_id="r-1")
    seen = (await cluster.invoke(identity, request_id="r-2")).json
    assert seen[0] == 200
    kinds = [event["type"] for event in seen[1:]]
    assert {
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
        "function",
    } <= set(kinds)
    lines = [event["record"] for event in seen[1:] if event["type"] == "function"]
    assert lines[0] == "hello from the function"
    report = next(event for event in seen[1:] if event["type"] == "platform.report")
    assert report["record"]["requestId"] == "r-1"
    assert report["record"]["status"] == "success"


async def test_an_internal_extension_is_given_half_a_second_at_the_end(cluster: Cluster) -> None:
    source = CLIENT + (
        "import signal\n"
        "def end(*_):\n"
        "    print('the runtime was asked to end', flush=True)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "status, headers, body = call('POST', '/2020-01-01/extension/register', json.dumps({'events': ['INVOKE']}),"
        " {'Lambda-Extension-Name': 'inside'})\n"
        "import threading\n"
        "def poll():\n"
        "    other = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
        "    while True:\n"
        "        other.request('GET', '/2020-01-01/extension/event/next', None,"
        " {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']})\n"
        "        other.getresponse().read()\n"
        "threading.Thread(target=poll, daemon=True).start()\n"
        "while True:\n"
        "    request, _, event = next()\n"
        "    respond(request, status)\n"
    )
    code = cluster.code.put(packed({"bootstrap": source}))
    identity = await cluster.deploy({}, runtime="provided.al2023", code_sha256=code)
    assert (await cluster.invoke(identity)).json == 200
    cluster.scheduler.order(pb.WorkerInstruction(stop=pb.StopEnvironment(environment_id=identity, reason="x")))
    await cluster.scheduler.until(lambda: identity in cluster.scheduler.gone)
    assert "the runtime was asked to end" in cluster.log_lines()
    assert json.dumps(cluster.scheduler.gone[identity]) == '"Stopped"'
