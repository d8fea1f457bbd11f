"""What a function meets at the strongest level this machine has: AWS's errors and texts, logs, limits, isolation."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.limits import Limits
from lambent.infra.session_credentials import SessionKeys
from tests.integration.test_worker_cluster import ECHO, SESSION_KEY, STRONGEST, Cluster, cluster_of

ISOLATED = pytest.mark.skipif(STRONGEST == "process", reason="needs root for the level namespaces")


@pytest.fixture
def cluster(every_way: Cluster) -> Cluster:
    return every_way


async def failure(cluster: Cluster, files: dict[str, str] | str, event: Any = None, **fields: Any) -> dict[str, Any]:
    identity = await cluster.deploy(files, **fields)
    answer = await cluster.invoke(identity, event)
    assert answer.result.error == "Unhandled"
    document: dict[str, Any] = answer.json
    assert answer.result.error_type == document["errorType"]
    return document


async def test_the_level_is_the_strongest_and_is_reported(cluster: Cluster) -> None:
    assert cluster.scheduler.hellos[0].isolation == STRONGEST
    assert "control groups" in cluster.worker.pool.reason


async def test_an_exception_is_an_error_document_and_the_environment_goes_on(cluster: Cluster) -> None:
    source = (
        "class Boom(Exception):\n    pass\n\ndef handler(event, context):\n    if event:\n        raise Boom('bang')\n"
    )
    identity = await cluster.deploy(source)
    answer = await cluster.invoke(identity, 1, request_id="r-1")
    root = "/var/task" if STRONGEST != "process" else answer.json["stackTrace"][0].split('"')[1].rpartition("/")[0]
    assert answer.json == {
        "errorMessage": "bang",
        "errorType": "Boom",
        "requestId": "r-1",
        "stackTrace": [f"  File \"{root}/app.py\", line 6, in handler\n    raise Boom('bang')\n"],
    }
    assert "[ERROR] Boom: bang\nTraceback (most recent call last):\n\u00a0\u00a0File" in answer.tail
    assert answer.result.reusable
    again = await cluster.invoke(identity, 0)
    assert (again.body, again.result.error, again.result.init_ms) == (b"null", None, None)


INIT_FAULTS = {
    "missing dependency": (
        {"app.py": "import nothing_there\n"},
        "app.handler",
        "Runtime.ImportModuleError",
        "Unable to import module 'app': No module named 'nothing_there'",
    ),
    "missing module": (
        {"app.py": ""},
        "other.handler",
        "Runtime.ImportModuleError",
        "Unable to import module 'other': No module named 'other'",
    ),
    "missing handler": (
        {"app.py": ""},
        "app.handler",
        "Runtime.HandlerNotFound",
        "Handler 'handler' missing on module 'app'",
    ),
    "malformed": (
        {"app.py": ""},
        "handler",
        "Runtime.MalformedHandlerName",
        "Bad handler 'handler': not enough values to unpack (expected 2, got 1)",
    ),
    "syntax": ({"app.py": "def (:\n"}, "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
    "built-in": (
        {"app.py": ""},
        "sys.handler",
        "Runtime.BuiltInModuleConflict",
        "Cannot use built-in module sys as a handler module",
    ),
    "raises": ({"app.py": "raise ValueError('no')\n"}, "app.handler", "ValueError", "no"),
}


@pytest.mark.parametrize("name", INIT_FAULTS)
async def test_a_handler_that_cannot_be_loaded_is_told_at_the_first_invocation(cluster: Cluster, name: str) -> None:
    files, handler, kind, message = INIT_FAULTS[name]
    document = await failure(cluster, files, handler=handler)
    assert (document["errorType"], document["requestId"]) == (kind, "")
    assert document["errorMessage"].startswith(message)
    assert all("zygote" not in frame and "runtime.py" not in frame for frame in document["stackTrace"])
    assert any(line.startswith("INIT_REPORT Init Duration: ") for line in cluster.log_lines())


async def test_results_are_written_as_awss_runtime_writes_them(cluster: Cluster) -> None:
    source = (
        "from decimal import Decimal\n"
        "def handler(event, context):\n"
        "    return {'decimal': {'n': Decimal('1.10'), 'é': 1}, 'bytes': b'\\x00raw',"
        " 'none': None, 'set': {1}}[event]\n"
    )
    identity = await cluster.deploy(source)
    escaped = "\\u00e9" if sys.version_info < (3, 12) else "é"
    assert (await cluster.invoke(identity, "decimal")).body.decode() == f'{{"n": 1.10, "{escaped}": 1}}'
    assert (await cluster.invoke(identity, "bytes")).body == b"\x00raw"
    assert (await cluster.invoke(identity, "none")).body == b"null"
    document = (await cluster.invoke(identity, "set")).json
    assert document["errorType"] == "Runtime.MarshalError"
    assert document["errorMessage"] == "Unable to marshal response: Object of type set is not JSON serializable"


async def test_events_that_are_no_json_and_contexts_that_are_none(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    document = (await cluster.invoke(identity, payload=b"{no")).json
    assert document["errorType"] == "Runtime.UnmarshalError"
    assert document["errorMessage"].startswith("Unable to unmarshal input: ")
    assert (await cluster.invoke(identity, payload=b"")).json == {}
    document = (await cluster.invoke(identity, client_context="{no")).json
    assert document["errorType"] == "Runtime.LambdaContextUnmarshalError"


async def test_the_context_and_the_variables_are_lambdas(cluster: Cluster) -> None:
    source = (
        "import os\n"
        "def handler(event, context):\n"
        "    c = context\n"
        "    return [c.aws_request_id, c.function_name, c.function_version, c.invoked_function_arn,"
        " c.memory_limit_in_mb, c.log_group_name, c.log_stream_name, c.client_context.custom,"
        " c.identity.cognito_identity_id, c.get_remaining_time_in_millis(), c.tenant_id,"
        " dict(os.environ), os.getcwd()]\n"
    )
    own = {"COLOUR": "blue", "TZ": "Europe/Berlin", "AWS_ENDPOINT_URL_SQS": "http://mine"}
    identity = await cluster.deploy(source, variables=own, role="arn:aws:iam::123456789012:role/service-role/reader")
    request: dict[str, Any] = {"request_id": "r-1", "client_context": '{"custom": {"k": "v"}}'}
    got = (await cluster.invoke(identity, trace="Root=1-x", **request)).json
    assert got[:5] == ["r-1", "fn", "$LATEST", "arn:aws:lambda:us-east-1:123456789012:function:fn", "128"]
    assert got[5] == "/aws/lambda/fn"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", got[6])
    assert got[7:9] == [{"k": "v"}, None]
    assert 0 < got[9] <= 3000
    environ = got[11]
    assert (environ["COLOUR"], environ["TZ"], environ["_X_AMZN_TRACE_ID"]) == ("blue", "Europe/Berlin", "Root=1-x")
    assert (environ["_HANDLER"], environ["AWS_LAMBDA_LOG_STREAM_NAME"]) == ("app.handler", got[6])
    assert environ["LAMBDA_TASK_ROOT"] == got[12]
    assert {name: url for name, url in environ.items() if name.startswith("AWS_ENDPOINT")} == {
        "AWS_ENDPOINT_URL_LAMBDA": "http://api.test",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://api.test",
        "AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING": "http://api.test",
        "AWS_ENDPOINT_URL_EVENTBRIDGE": "http://api.test",
        "AWS_ENDPOINT_URL_SCHEDULER": "http://api.test",
        "AWS_ENDPOINT_URL_STS": "http://api.test",
        "AWS_ENDPOINT_URL_S3": "http://s3.test",
        "AWS_ENDPOINT_URL_SQS": "http://mine",
    }
    session = SessionKeys(SESSION_KEY).open(environ["AWS_SESSION_TOKEN"])
    assert session is not None
    assert (session.key.id, session.key.secret) == (environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"])
    assert session.key.principal.arn == "arn:aws:sts::123456789012:assumed-role/reader/fn"
    assert not {name for name in environ if name in os.environ and name not in ("PATH", "LANG", "PWD", "TZ", "SHLVL")}
    assert "_X_AMZN_TRACE_ID" not in (await cluster.invoke(identity, **request)).json[11]


async def test_the_log_of_an_invocation_is_in_order(cluster: Cluster) -> None:
    source = (
        "import logging, sys, os\n"
        "print('importing')\n"
        "logging.getLogger().setLevel(logging.INFO)\n"
        "def handler(event, context):\n"
        "    print('one'); logging.info('two'); print('three', file=sys.stderr); os.write(1, b'four')\n"
    )
    identity = await cluster.deploy(source)
    answer = await cluster.invoke(identity, request_id="r-1")
    lines = answer.tail.split("\n")
    assert lines[0] == "START RequestId: r-1 Version: $LATEST"
    assert lines[1] == "one"
    assert re.fullmatch(r"\[INFO\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tr-1\ttwo", lines[2])
    assert lines[3:6] == ["three", "four", "END RequestId: r-1"]
    report = (
        r"REPORT RequestId: r-1\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t"
    )
    assert re.fullmatch(report, lines[6])
    logged = cluster.log_lines()
    assert logged[0].startswith("INIT_START Runtime Version: python:3.")
    assert logged[1] == "importing"
    assert logged[2:] == lines[:-1]
    assert "Init Duration" not in (await cluster.invoke(identity)).tail


async def test_the_tail_is_4_kb_and_a_flood_is_cut(cluster: Cluster) -> None:
    source = "def handler(event, context):\n    for n in range(event):\n        print('x' * 1023)\n    return 'done'\n"
    identity = await cluster.deploy(source, timeout_seconds=20, memory_mb=1769)
    answer = await cluster.invoke(identity, 20)
    assert answer.result.tail is not None
    assert len(answer.result.tail) == 4096
    assert "REPORT" in answer.tail.splitlines()[-1]
    answer = await cluster.invoke(identity, 10_000)
    assert answer.json == "done"
    assert "bytes of output were dropped" in answer.tail
    assert sum(len(line) for line in cluster.log_lines()) < 6_000_000


async def test_a_timeout_kills_and_tmp_survives(cluster: Cluster) -> None:
    source = (
        "import os, tempfile, time\n"
        "count = 0\n"
        "path = os.path.join(tempfile.gettempdir(), 'kept')\n"
        "def handler(event, context):\n"
        "    global count\n"
        "    count += 1\n"
        "    if event == 'hang':\n"
        "        open(path, 'w').write('here')\n"
        "        print('going')\n"
        "        time.sleep(60)\n"
        "    return [count, os.path.exists(path) and open(path).read()]\n"
    )
    identity = await cluster.deploy(source, timeout_seconds=1)
    assert (await cluster.invoke(identity)).json == [1, False]
    answer = await cluster.invoke(identity, "hang", request_id="r-1")
    assert answer.json == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: r-1 Error: Task timed out after 1.00 seconds",
    }
    assert 1000 <= answer.result.duration_ms < 1500
    lines = answer.tail.splitlines()
    assert lines[1] == "going"
    assert re.fullmatch(r"\S+Z r-1 Task timed out after 1.00 seconds", lines[2])
    assert lines[-1].endswith("Status: timeout")
    assert answer.result.reusable
    answer = await cluster.invoke(identity)
    assert answer.json == [1, "here"]  # a new process in the old file system
    assert answer.result.init_ms is None  # its init was within the invocation
    assert (await cluster.invoke(identity)).json == [2, "here"]
    assert cluster.worker.counters.timeouts == 1
    assert cluster.records[1].reason == "TimedOut"


EXITS = {
    "sys.exit(0)": "Runtime exited without providing a reason",
    "sys.exit(3)": "Runtime exited with error: exit status 3",
    "os._exit(4)": "Runtime exited with error: exit status 4",
    "os.kill(os.getpid(), 11) or ctypes.string_at(0)": "Runtime exited with error: signal: segmentation fault",
}


@pytest.mark.parametrize("statement", EXITS)
async def test_a_process_that_ends_is_told_and_replaced(cluster: Cluster, statement: str) -> None:
    source = (
        f"import os, sys, ctypes\ndef handler(event, context):\n    if event:\n        {statement}\n    return 'fine'\n"
    )
    identity = await cluster.deploy(source)
    answer = await cluster.invoke(identity, 1, request_id="r-1")
    assert answer.json == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: r-1 Error: {EXITS[statement]}",
    }
    assert answer.tail.rstrip("\n").endswith("Status: error\tError Type: Runtime.ExitError")
    assert (await cluster.invoke(identity, 0)).json == "fine"


async def test_an_init_phase_that_exits_or_hangs_is_done_again_within_the_invocation(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, limits=Limits(init_seconds=0.3)) as cluster:
        slow = await cluster.deploy("import time\ntime.sleep(0.6)\n" + ECHO)
        answer = await cluster.invoke(slow, 1)
        assert answer.json == 1
        assert answer.result.init_ms is None
        assert answer.result.duration_ms >= 600
        assert any("Phase: init\tStatus: timeout" in line for line in cluster.log_lines())
        assert cluster.worker.counters.init_failures == 1
        hanging = await cluster.deploy("import time\ntime.sleep(60)\n" + ECHO, timeout_seconds=1)
        assert (await cluster.invoke(hanging)).json["errorType"] == "Sandbox.Timedout"
        leaving = await cluster.deploy("import sys\nsys.exit(2)\n")
        document = (await cluster.invoke(leaving, request_id="r")).json
        assert document["errorMessage"] == "RequestId: r Error: Runtime exited with error: exit status 2"


async def test_too_much_memory_is_killed(cluster: Cluster) -> None:
    source = "def handler(event, context):\n    held = b'x' * (event << 20)\n    return len(held)\n"
    identity = await cluster.deploy(source, timeout_seconds=20)
    answer = await cluster.invoke(identity, 400, request_id="r")
    assert answer.json["errorMessage"] == "RequestId: r Error: Runtime exited with error: signal: killed"
    assert cluster.worker.counters.out_of_memory == 1
    assert (await cluster.invoke(identity, 10)).json == 10 << 20


async def test_a_response_that_is_too_large_is_an_error(cluster: Cluster) -> None:
    identity = await cluster.deploy("def handler(event, context):\n    return 'x' * event\n", memory_mb=512)
    answer = await cluster.invoke(identity, 7_000_000)
    assert answer.json == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert len((await cluster.invoke(identity, 6_000_000)).json) == 6_000_000
    assert (await cluster.invoke(identity, payload=json.dumps(["y" * 5_000_000]).encode())).result.error == "Unhandled"


async def test_a_guest_that_talks_nonsense_is_replaced(cluster: Cluster) -> None:
    source = (
        "import os, socket, struct\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        for n in range(3, 20):\n"
        "            try:\n"
        "                s = socket.socket(fileno=os.dup(n))\n"
        "                s.send(struct.pack('<BII', 18, 4, 1 << 31) + b'abcd' * 9)\n"
        "            except OSError:\n"
        "                pass\n"
        "    return 'fine'\n"
    )
    identity = await cluster.deploy(source)
    assert (await cluster.invoke(identity, 1)).result.error == "Unhandled"
    assert (await cluster.invoke(identity, 0)).json == "fine"


async def test_a_function_may_bring_modules_that_the_platform_has_under_the_same_name(cluster: Cluster) -> None:
    files = {
        "app.py": (
            "import wire, runtime, zygote, queue\n"
            "def handler(event, context):\n"
            "    return [wire.X, runtime.X, zygote.X, queue.X]\n"
        ),
        "wire.py": "X = 1\n",
        "runtime.py": "X = 2\n",
        "zygote.py": "X = 3\n",
        "queue.py": "X = 4\n",
    }
    identity = await cluster.deploy(files)
    assert (await cluster.invoke(identity)).json == [1, 2, 3, 4]


async def test_no_two_environments_share_random_numbers(cluster: Cluster) -> None:
    source = "import random, uuid\ndef handler(e, c):\n    return [random.random(), str(uuid.uuid4())]\n"
    first, second = await cluster.deploy(source), await cluster.deploy(source)
    one, two = (await cluster.invoke(first)).json, (await cluster.invoke(second)).json
    assert one[0] != two[0]
    assert one[1] != two[1]


PROBE = """
import ctypes, glob, os, socket, subprocess
def handler(event, context):
    def attempt(work):
        try:
            return work()
        except OSError as error:
            return type(error).__name__
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "uid": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
        "caps": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privs": status["NoNewPrivs"].strip(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "secret": attempt(lambda: open(event["secret"]).read()),
        "data": attempt(lambda: os.listdir(event["data"])),
        "packages": attempt(lambda: os.listdir("/run/lambent/packages")),
        "shadow": attempt(lambda: open("/etc/shadow").read()),
        "task": attempt(lambda: open("/var/task/new", "w")),
        "root": attempt(lambda: open("/new", "w")),
        "usr": attempt(lambda: open("/usr/new", "w")),
        "tmp": attempt(lambda: os.listdir("/tmp")),
        "write": attempt(lambda: open("/tmp/mine", "w").write("x")),
        "mount": ctypes.CDLL(None).mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None),
        "unshare": ctypes.CDLL(None).unshare(0x00020000),
        "limits": __import__("resource").getrlimit(7),
        "fds": sorted(os.listdir("/proc/self/fd")),
        "shell": subprocess.run(["/bin/sh", "-c", "id -u; ls /"], capture_output=True, text=True).stdout.split(),
        "mode": oct(os.stat("/tmp").st_mode & 0o7777),
        "size": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize >> 20,
        "host": socket.gethostname(),
    }
"""


@ISOLATED
async def test_what_a_function_can_see_and_do(cluster: Cluster) -> None:
    secret = cluster.folder / "secret"
    secret.write_text("the worker's")
    first, second = await cluster.deploy(PROBE), await cluster.deploy(PROBE)
    where = {"secret": str(secret), "data": str(cluster.config.data_dir)}
    seen = (await cluster.invoke(first, where)).json
    assert seen["uid"] == [200_000, 200_000, 200_000, []]
    assert set(seen["caps"]) == {"0000000000000000"}
    assert seen["no_new_privs"] == "1"
    assert seen["pids"] == ([1, 2] if cluster.launched else [1])
    for name in ("secret", "data"):
        assert seen[name] == "FileNotFoundError"
    assert seen["packages"] == []
    assert seen["shadow"] == "FileNotFoundError"
    for name in ("task", "root", "usr"):
        assert seen[name] in ("OSError", "PermissionError")
    assert (seen["tmp"], seen["write"]) == ([], 1)
    assert (seen["mount"], seen["unshare"]) == (-1, -1)
    assert seen["limits"] == [1024, 1024]
    assert seen["shell"][0] == "200000"
    assert "work" not in seen["shell"]
    assert (seen["mode"], seen["size"], seen["host"]) == ("0o1777", 512, "lambent")
    other = (await cluster.invoke(second, where)).json
    assert other["uid"][0] == 200_001
    assert other["tmp"] == []
    assert (await cluster.invoke(first, where)).json["tmp"] == ["mine"]


@ISOLATED
async def test_processes_that_a_function_leaves_die_with_its_sandbox(cluster: Cluster) -> None:
    source = (
        "import os, time\n"
        "def handler(event, context):\n"
        "    for n in range(3):\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "            time.sleep(600)\n"
        "            os._exit(0)\n"
        "    if event:\n"
        "        time.sleep(60)\n"
        "    return len([p for p in os.listdir('/proc') if p.isdigit()])\n"
    )
    identity = await cluster.deploy(source, timeout_seconds=1)
    assert (await cluster.invoke(identity, 0)).json == 4 + cluster.launched
    assert (await cluster.invoke(identity, 1)).json["errorType"] == "Sandbox.Timedout"
    assert (await cluster.invoke(identity, 0)).json == 4 + cluster.launched


@ISOLATED
async def test_a_fork_bomb_meets_its_limit(cluster: Cluster) -> None:
    source = (
        "import threading\n"
        "def handler(event, context):\n"
        "    stop, threads = threading.Event(), []\n"
        "    threading.stack_size(65536)\n"
        "    try:\n"
        "        for n in range(2000):\n"
        "            threads.append(threading.Thread(target=stop.wait)); threads[-1].start()\n"
        "    except RuntimeError:\n"
        "        return len(threads)\n"
        "    finally:\n"
        "        stop.set()\n"
    )
    identity = await cluster.deploy(source, memory_mb=1024, timeout_seconds=30)
    assert (await cluster.invoke(identity)).json == 1024 - cluster.launched  # the launcher is one more process


async def test_a_zygote_that_dies_takes_its_children_along_and_is_replaced(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    pool: Any = cluster.worker.pool
    zygote = next(iter(pool._stems.values())).zygote
    zygote._process.kill()
    await cluster.until(lambda: cluster.worker.environments.by_id[identity].state.name == "COLD")
    assert (await cluster.invoke(identity, 5)).json == 5
