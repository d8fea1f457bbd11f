"""What Python functions find of their own (modules, shared libraries, a wrapper), and what becomes of their log records."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_runtime_api import deploy, packed
from tests.integration.test_worker_cluster import STRONGEST, Cluster, cluster_of
from tests.integration.test_worker_guest import ISOLATED

# A library that functions have under another name.
MATHS = Path(
    next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm" in line)
).read_bytes()


@pytest.fixture(params=["channel", "api", "program"])
async def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Whichever way a function's runtime is started."""
    way = request.param
    async with cluster_of(tmp_path, through_api=way == "api", as_programs=way == "program") as made:
        yield made


async def test_a_record_is_one_event_whatever_lines_it_has(cluster: Cluster) -> None:
    source = (
        "import contextlib, io, logging, sys\n"
        "class Odd(Exception):\n"
        "    def __str__(self):\n"
        "        raise ValueError\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        logging.exception('first\\nof two')\n"
        "    logging.error('second')\n"
        "    print('a\\nb')\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as caught:\n"
        "        logging.error('kept\\nback')\n"
        "    print(repr(caught.getvalue()[-10:]))\n"
        "    raise Odd if event == 'odd' else LookupError('one\\ntwo')\n"
    )
    identity = await cluster.deploy(source)
    await cluster.invoke(identity)
    logged = [line for line in cluster.log_lines() if "RequestId" not in line and "INIT_START" not in line]
    first, second, *printed, failed = logged
    assert re.search(r"\tfirst\nof two\nTraceback \(most.*\n(.*\n)+ZeroDivisionError: division by zero$", first)
    assert second.endswith("\tsecond")
    assert printed == ["a", "b", "'kept\\nback\\n'"]
    assert failed.startswith("[ERROR] LookupError: one\ntwo\nTraceback (most recent call last):\n")
    odd = (await cluster.invoke(identity, "odd")).json
    assert (odd["errorType"], odd["errorMessage"], len(odd["stackTrace"])) == ("Odd", "", 1)


async def test_the_report_of_a_traced_invocation_names_its_trace(cluster: Cluster) -> None:
    source = "def handler(event, context):\n    return 1\n"
    root, parent = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
    identity = await cluster.deploy(source)
    traced = await cluster.invoke(identity, trace=f"Root={root};Parent={parent};Sampled=1")
    *_, report, told = traced.tail.rstrip("\n").split("\n")
    assert (report.split(" ")[0], told) == ("REPORT", f"XRAY TraceId: {root}\tSegmentId: {parent}\tSampled: true\t")
    assert any(line.startswith("REPORT") and line.endswith(told) for line in cluster.log_lines()), "one event"
    for trace in (f"Root={root};Parent={parent};Sampled=0", f"Root={root};Sampled=1", "Sampled=1", ""):
        assert "XRAY" not in (await cluster.invoke(identity, trace=trace)).tail
    identity = await cluster.deploy(source, log_format="JSON")
    trace = f"Root={root};Parent={parent};Sampled=1"
    last = json.loads((await cluster.invoke(identity, trace=trace)).tail.splitlines()[-1])
    assert last["record"]["tracing"] == {"type": "X-Amzn-Trace-Id", "value": trace, "spanId": parent}


async def test_modules_come_from_where_the_function_says(cluster: Cluster) -> None:
    source = "import sys, vendored\ndef handler(event, context):\n    return [vendored.x, vendored.__file__]\n"
    files = {"app.py": source, "deep/er/vendored.py": "x = 7\n"}
    root = "/var/task" if STRONGEST != "process" else ""
    identity = await cluster.deploy(files, variables={"PYTHONPATH": f"/nothing:{root}/deep/er"})
    if root:
        assert (await cluster.invoke(identity)).json == [7, "/var/task/deep/er/vendored.py"]


@ISOLATED
@pytest.mark.parametrize("place", ["lib/", "", "own/", "layer"])
async def test_shared_libraries_are_found_where_they_may_be(cluster: Cluster, place: str) -> None:
    source = (
        "import ctypes\n"
        "def handler(event, context):\n"
        "    cosine = ctypes.CDLL('libours.so').cos\n"
        "    cosine.restype, cosine.argtypes = ctypes.c_double, [ctypes.c_double]\n"
        "    return cosine(0.0)\n"
    )
    files: dict[str, str | bytes] = {"app.py": source}
    fields: dict[str, Any] = {"memory_mb": 256}
    if place == "layer":
        fields["layer_sha256"] = [cluster.code.put(packed({"lib/libours.so": MATHS}))]
    else:
        files[f"{place}libours.so"] = MATHS
        fields["variables"] = {"LD_LIBRARY_PATH": f"/var/task/{place}"} if place == "own/" else {}
    if cluster.as_programs and place != "own/":
        fields["variables"] = {"LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib"}
    identity = await deploy(cluster, files, runtime="python3.11", handler="app.handler", **fields)
    assert (await cluster.invoke(identity)).json == 1.0


@ISOLATED
async def test_a_wrapper_starts_the_runtime(cluster: Cluster) -> None:
    wrapper = '#!/bin/sh\nexport WRAPPED="$#" _HANDLER=other.handler\nexec "$@"\n'
    other = "import os\ndef handler(event, context):\n    return [os.environ['WRAPPED'], context.function_name]\n"
    files: dict[str, str | bytes] = {"app.py": "", "other.py": other, "wrap": wrapper}
    fields = {"runtime": "python3.11", "handler": "app.handler"}
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}
    identity = await deploy(cluster, files, variables=variables, **fields)
    assert (await cluster.invoke(identity)).json == ["5", "fn"]
    identity = await deploy(cluster, files, variables={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/none"}, **fields)
    failed = (await cluster.invoke(identity)).json
    assert (failed["errorType"], "/opt/none" in failed["errorMessage"]) == ("Runtime.InvalidEntrypoint", True)


@ISOLATED
async def test_what_a_wrapper_has_patched_before_the_runtime_stays_patched(cluster: Cluster) -> None:
    files: dict[str, str | bytes] = {
        "app.py": "import requests\ndef handler(event, context):\n    return requests.patched\n",
        "python/sitecustomize.py": "import requests\nrequests.patched = True\n",
        "requests.py": "patched = False\n",
        "wrap": '#!/bin/sh\nexport PYTHONPATH=/var/task/python:/var/task\nexec "$@"\n',
    }
    fields = {"runtime": "python3.11", "handler": "app.handler"}
    identity = await deploy(cluster, files, variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}, **fields)
    assert (await cluster.invoke(identity)).json is True


async def test_letters_of_every_alphabet_arrive(cluster: Cluster) -> None:
    source = (
        "class Größe(Exception):\n    pass\n"
        "def handler(event, context):\n"
        "    if event == 'fail':\n        raise Größe('zu groß')\n"
        "    return context.client_context.custom\n"
    )
    identity = await cluster.deploy(source)
    failed = await cluster.invoke(identity, "fail")
    assert (failed.json["errorType"], failed.json["errorMessage"]) == ("Größe", "zu groß")
    assert failed.result.error_type in ("Größe", "Gr??e", "Gr????e"), "headers are ASCII"
    answer = await cluster.invoke(identity, client_context='{"custom": {"Łódź": "日本"}}')
    assert answer.json == {"Łódź": "日本"}
