"""What is done to a pod from its node, where the node's power over it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tests.kube.release import Release

HAND = """
apiVersion: v1
kind: Pod
metadata: {name: hand}
spec:
  nodeName: NODE
  hostNetwork: true
  hostPID: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
    - name: hand
      image: lambent.local/lambent-control:VERSION
      command: [sleep, "600"]
      securityContext: {privileged: true, runAsUser: 0, runAsNonRoot: false}
"""
# Ends the process that a pod's container began with, as the kernel would.
KILL = """
import os, signal, sys
from pathlib import Path
name, found = b"HOSTNAME=" + sys.argv[1].encode(), []
for folder in Path("/proc").iterdir():
    try:
        if folder.name.isdecimal() and name in (folder / "environ").read_bytes().split(b"\\0"):
            found.append(int(folder.name))
    except OSError:
        continue
os.kill(min(found), signal.SIGKILL)
"""


class Python(Protocol):
    """Runs a program of Python's there; answers what it printed."""

    def __call__(self, program: str, *arguments: str, check: bool = True) -> str: ...


@contextmanager
def beside(release: Release, pod: str) -> Iterator[Python]:
    """Programs that run on a pod's node, outside of the pod."""
    node = release.kubectl("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
    release.kubectl("apply", "-f", "-", stdin=HAND.replace("NODE", node).replace("VERSION", release.version))
    release.kubectl("wait", "--for=condition=Ready", "pod/hand", "--timeout=60s")

    def python(program: str, *arguments: str, check: bool = True) -> str:
        return release.kubectl("exec", "hand", "--", "python", "-c", program, *arguments, check=check)

    try:
        yield python
    finally:
        release.kubectl("delete", "pod", "hand", "--wait=true")
