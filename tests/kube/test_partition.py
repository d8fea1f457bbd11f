"""A worker that is cut off from everybody, and goes on by itself: its callers are told, others do its work, and it is let
go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.e2e.harness import eventually
from tests.kube.on_a_node import beside
from tests.kube.release import NOW, Release, report
from tests.kube.test_faults import NAP, begun

# On a pod's node and in its network: takes the node's end of the pod's cable down, or up again.
CABLE = """
import fcntl, socket, struct, sys
from pathlib import Path
index, up = sys.argv[1], sys.argv[2] == "up"
name = next(each.name for each in Path("/sys/class/net").iterdir() if (each / "ifindex").read_text().strip() == index)
with socket.socket() as any_socket:
    request = struct.pack("16sH14x", name.encode(), 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, 0x8913, request))[1]  # SIOCGIFFLAGS
    flags = flags | 1 if up else flags & ~1  # IFF_UP
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", name.encode(), flags))  # SIOCSIFFLAGS
"""


@contextmanager
def cut_off(release: Release, pod: str) -> Iterator[None]:
    """A pod without its network."""
    index = release.kubectl("exec", pod, "--", "cat", "/sys/class/net/eth0/iflink").strip()
    with beside(release, pod) as python:
        try:
            python(CABLE, index, "down")
            yield
        finally:
            python(CABLE, index, "up", check=False)  # with its pod the cable goes, too


def test_a_worker_that_is_cut_off_is_replaced_and_its_callers_are_told(release: Release) -> None:
    release.create("cut", NAP)
    client = release.client(retries=8)
    client.invoke(FunctionName="cut", Payload=b'{"n": 1}')
    eventually(lambda: len(release.ready("worker")) == 1, 240)
    [victim] = release.ready("worker")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(release.client().invoke, FunctionName="cut", Payload=b'{"s": 50, "n": 2}')
        eventually(lambda: begun(release, "cut", 1), 60)
        with cut_off(release, victim):
            since = NOW()
            error = running.exception(timeout=45)
            told = NOW() - since
            answer = client.invoke(FunctionName="cut", Payload=b'{"n": 3}')
            answered = NOW() - since
            assert json.load(answer["Payload"]) == 3
            # It does not come back in time, and is let go.
            eventually(lambda: victim not in {pod["metadata"]["name"] for pod in release.pods("worker")}, 180)
    assert "ServiceException" in str(error), error
    report(f"worker cut off: its caller was told after {told:.1f} s, the next answer came after {answered:.1f} s")
    eventually(lambda: victim not in {pod["metadata"]["name"] for pod in release.get("pods")}, 240)
