"""Responses that stream, from real runtimes to whoever takes them piece by piece."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from lambent.domain.limits import Limits
from lambent.infra import frames
from tests.integration.test_runtime_api import CLIENT, NODE, deploy, needs_node
from tests.integration.test_worker_cluster import Cluster, cluster_of

# A runtime that streams: `begin` sends the head, `piece` one chunk, `end` the last with what stands behind it.
STREAMING = CLIENT + (
    "import base64\n"
    "def begin(request):\n"
    "    api.putrequest('POST', BASE + f'invocation/{request}/response')\n"
    "    api.putheader('Lambda-Runtime-Function-Response-Mode', 'streaming')\n"
    "    api.putheader('Content-Type', 'text/plain')\n"
    "    api.putheader('Transfer-Encoding', 'chunked')\n"
    "    api.putheader('Trailer', 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body')\n"
    "    api.endheaders()\n"
    "def piece(data):\n"
    "    api.send(b'%x\\r\\n%b\\r\\n' % (len(data), data))\n"
    "def end(*trailers):\n"
    "    api.send(b'0\\r\\n' + b''.join(line + b'\\r\\n' for line in trailers) + b'\\r\\n')\n"
    "    answer = api.getresponse()\n"
    "    answer.read()\n"
    "    return answer.status\n"
    "while True:\n"
    "    request, headers, body = next()\n"
    "    how = json.loads(body)\n"
    "    begin(request)\n"
    "    piece(b'first')\n"
    "    if how == 'error':\n"
    '        document = base64.b64encode(b\'{"errorType": "Boom", "errorMessage": "bang"}\')\n'
    "        end(b'Lambda-Runtime-Function-Error-Type: Boom', b'Lambda-Runtime-Function-Error-Body: ' + document)\n"
    "    elif how == 'exit':\n"
    "        sys.exit(1)\n"
    "    elif how == 'cut':\n"
    "        api.close()\n"
    "    elif isinstance(how, int):\n"
    "        try:\n"
    "            for _ in range(how):\n"
    "                piece(b'x' * 65536)\n"
    "                print('sent', flush=True)\n"
    "            end()\n"
    "        except OSError:\n"
    "            api.close()\n"
    "    elif how == 'small':\n"
    "        for _ in range(300):\n"
    "            api.send(b'00001\\r\\nx\\r\\n' * 1000)\n"
    "        end()\n"
    "    else:\n"
    "        piece(b' second')\n"
    "        end()\n"
)


async def streamed(cluster: Cluster, identity: str, event: Any) -> tuple[list[Any], Any, bytes]:
    """What comes of an invocation whose response is taken piece by piece, and how it ends."""
    request = cluster.request(identity, streams=True)
    number, future = cluster.client.send(request, json.dumps(event).encode())
    async with asyncio.timeout(20):
        meta, payload = await future
    return cluster.client.pieces.pop(number, []), meta, payload


async def test_a_response_streams(cluster: Cluster) -> None:
    identity = await deploy(cluster, {"bootstrap": STREAMING})
    pieces, result, payload = await streamed(cluster, identity, "well")
    assert pieces[0].content_type == "text/plain"
    assert b"".join(pieces[1:]) == b"first second"
    assert (result.error, payload) == (None, b"")
    # However small its pieces are.
    pieces, result, _ = await streamed(cluster, identity, "small")
    assert (result.error, b"".join(pieces[1:])) == (None, b"first" + b"x" * 300_000)
    # Who does not take it so has it in one piece.
    assert (await cluster.invoke(identity, "well")).body == b"first second"
    failed = await cluster.invoke(identity, "error")
    assert failed.json == {"errorType": "Boom", "errorMessage": "bang"}
    for how, kind in (("error", "Boom"), ("cut", "Runtime.TruncatedResponse"), ("exit", "Runtime.ExitError")):
        pieces, result, payload = await streamed(cluster, identity, how)
        assert pieces[1] == b"first"
        assert (result.error, result.error_type, json.loads(payload)["errorType"]) == ("Unhandled", kind, kind)


async def test_a_response_stops_where_its_caller_takes_no_more_and_at_the_limit(tmp_path: Path) -> None:
    limits = Limits(streamed_response_bytes=4 * 1024 * 1024)
    async with cluster_of(tmp_path, limits=limits) as cluster:
        identity = await deploy(cluster, {"bootstrap": STREAMING}, timeout_seconds=2, memory_mb=512)
        pieces, result, _ = await streamed(cluster, identity, 100)
        assert result.error_type == "Function.ResponseSizeTooLarge"
        assert sum(map(len, pieces[1:])) <= limits.streamed_response_bytes
        pieces, result, _ = await streamed(cluster, identity, 60)
        assert (result.error, sum(map(len, pieces[1:]))) == (None, 5 + 60 * 65536)
        # What the function had to wait with is nothing that its next invocation waits for.
        pieces, result, _ = await streamed(cluster, identity, "well")
        assert (result.error, result.init_ms, b"".join(pieces[1:])) == (None, None, b"first second")
        # Nobody takes anything: the function waits, within its time, and nothing piles up.
        cluster.client.takes = False
        pieces, result, _ = await streamed(cluster, identity, 60)
        assert result.error_type == "Sandbox.Timedout"
        assert sum(map(len, pieces[1:])) <= 2 * frames.WINDOW + 65536


@needs_node
async def test_a_node_function_streams(tmp_path: Path) -> None:
    assert NODE is not None
    async with cluster_of(tmp_path, interpreters={"nodejs20.x": Path(NODE)}) as cluster:
        source = (
            "exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {\n"
            "  if (event === 'before') throw new Error('early');\n"
            "  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });\n"
            "  stream.write('one ');\n"
            "  if (event === 'after') throw new Error('late');\n"
            "  stream.write('two');\n"
            "  stream.end();\n"
            "});\n"
        )
        identity = await deploy(cluster, {"app.js": source}, runtime="nodejs20.x", handler="app.handler", memory_mb=256)
        pieces, result, _ = await streamed(cluster, identity, "well")
        assert pieces[0].content_type == "application/vnd.awslambda.http-integration-response"
        assert b"".join(pieces[1:]) == b'{"statusCode":201}' + bytes(8) + b"one two"
        assert result.error is None
        pieces, result, payload = await streamed(cluster, identity, "before")
        assert (pieces, json.loads(payload)["errorMessage"]) == ([], "early")
        pieces, result, payload = await streamed(cluster, identity, "after")
        assert b"".join(pieces[1:]).endswith(b"one ")
        assert json.loads(payload)["errorMessage"] == "late"
