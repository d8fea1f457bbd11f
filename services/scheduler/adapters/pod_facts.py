"""What a pod's status means for the fleet. Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.scheduler.core.roster import PodFacts

POOL, TEMPLATE = "lambent.dev/pool", "lambent.dev/template"

# Why a container waits that will not start by itself soon.
_STUCK = frozenset(
    {
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError",
        "CreateContainerError", "RunContainerError", "CrashLoopBackOff",
    }
)  # fmt: skip


def facts_of(pod: Mapping[str, Any], templates: Mapping[str, str]) -> PodFacts:
    """The facts. `templates`: of the pools, the hash of the template that is theirs now."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    pool = str(labels.get(POOL, ""))
    phase = status.get("phase", "")
    ended = phase in ("Failed", "Succeeded")
    return PodFacts(
        name=metadata["name"],
        pool=pool,
        node=(pod.get("spec") or {}).get("nodeName") or "",
        # "Acknowledged by the Kubelet", in the words of the API.
        taken=bool(status.get("startTime")),
        running=phase == "Running" and not _stuck(status),
        ready=_is_ready(status),
        ended=ended,
        terminating=bool(metadata.get("deletionTimestamp")),
        grace_seconds=float(metadata.get("deletionGracePeriodSeconds") or 0),
        trouble=_end_of(status) if ended else _trouble(status),
        outdated=labels.get(TEMPLATE) != templates.get(pool),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _end_of(status: Mapping[str, Any]) -> str:
    """Why a pod has ended: evicted with a message, killed for its memory, or an exit code."""
    if status.get("reason"):
        return _joined(status["reason"], status.get("message"))
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            return _joined(ended.get("reason") or "Ended", f"exit code {ended.get('exitCode')}")
    return f"its pod has {str(status.get('phase')).lower()}"


def _trouble(status: Mapping[str, Any]) -> str:
    """What keeps a pod from running; empty: nothing yet."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _joined(condition.get("reason") or "Unschedulable", condition.get("message"))
    waits = _stuck(status)
    if not waits:
        return ""
    container, waiting = waits
    last = (container.get("lastState") or {}).get("terminated") or {}
    if waiting["reason"] == "CrashLoopBackOff" and last:
        return _joined("CrashLoopBackOff", f"{last.get('reason') or 'Error'}, exit code {last.get('exitCode')}")
    return _joined(waiting["reason"], waiting.get("message"))


def _stuck(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return container, waiting
    return None


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def _joined(reason: object, message: object) -> str:
    """In one line."""
    text = f"{reason}: {message}" if message else str(reason)
    return " ".join(text.split())[:300]
