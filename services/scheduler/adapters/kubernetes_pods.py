"""Worker pods: what there is, kept true by a list and a watch that is resumed; and their making and removal."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping

from lambent.infra.rpc import delays
from services.scheduler.adapters.kubernetes_api import ApiAway, ApiRefused, KubernetesApi, Object
from services.scheduler.adapters.pod_facts import POOL, TEMPLATE, facts_of
from services.scheduler.adapters.pool_files import PoolFile
from services.scheduler.core.roster import PodFacts
from services.scheduler.fleet import PodRefused

_log = logging.getLogger(__name__)

PODS = "api/v1 pods"
FLEET = "lambent.dev/fleet"  # label of all pods of a release that are made here
# A watch lasts so long, and up to half as much again: a connection that died without a word is noticed by then.
_WATCH_SECONDS = 30
_PAGE = "500"


class KubernetesPods:
    """The worker pods of one release. A `services.scheduler.fleet.Pods`."""

    def __init__(self, api: KubernetesApi, release: str, owner: str, pools: Mapping[str, PoolFile]) -> None:
        """`release`: of the chart; in their labels. `owner`: the ConfigMap whose deletion removes the pods; empty:
        none."""
        self._api = api
        self._owner = owner
        self._pools = pools
        self._templates = {name: template_hash(pool.template) for name, pool in pools.items()}
        self._labels = {FLEET: release}
        self._objects: dict[str, Object] = {}
        self._random = random.Random()
        self.synced = False
        self.changed: Callable[[], None] = lambda: None
        self.gone: Callable[[str], None] = lambda name: None

    def facts(self) -> Mapping[str, PodFacts]:
        return {name: facts_of(pod, self._templates) for name, pod in self._objects.items()}

    # What there is

    async def run(self) -> None:
        """Follow the cluster, for ever. Nothing is known for certain until `synced`."""
        waits = _waits(self._random)
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                    self.synced = True
                    self.changed()
                    waits = _waits(self._random)
                version = await self._watch(version)
            except ApiRefused as error:
                if error.status == 410:
                    version = ""  # too old to go on from: whatever happened since is seen by a list
                    continue
                await self._pause(waits, error)
            except ApiAway as error:
                await self._pause(waits, error)

    async def _pause(self, waits: Iterator[float], error: Exception) -> None:
        _log.warning("worker pods cannot be followed", extra={"reason": str(error)})
        await asyncio.sleep(next(waits))

    async def _list(self) -> str:
        found: dict[str, Object] = {}
        query = {"labelSelector": _selector(self._labels), "limit": _PAGE}
        while True:
            page = await self._api.get(PODS, query)
            found |= {pod["metadata"]["name"]: pod for pod in page.get("items") or ()}
            more = page["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        lost = self._objects.keys() - found.keys()
        self._objects = found
        for name in sorted(lost):
            self.gone(name)
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Follow from a version on until the watch ends; the version to go on from."""
        seconds = int(_WATCH_SECONDS * self._random.uniform(1.0, 1.5))
        query = {
            "labelSelector": _selector(self._labels), "resourceVersion": version, "allowWatchBookmarks": "true",
        }  # fmt: skip
        async for event in self._api.watch(PODS, query, seconds):
            kind, found = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise ApiRefused(int(found.get("code") or 500), str(found.get("reason")), str(found.get("message")))
            version = str(found["metadata"]["resourceVersion"])
            if kind == "BOOKMARK":
                continue
            name = found["metadata"]["name"]
            if kind == "DELETED":
                self._objects.pop(name, None)
                self.gone(name)
            else:
                self._objects[name] = found
            self.changed()
        return version

    # What is done

    async def create(self, pool: str, name: str, avoid: frozenset[str]) -> None:
        """Make a pod. `avoid`: nodes that are taken only where no other has room. Raises PodRefused."""
        try:
            owner = await self._owner_reference()
            made = await self._api.create(PODS, self._pod(pool, name, owner, avoid))
        except (ApiRefused, ApiAway) as error:
            raise PodRefused(_why(error, pool)) from error
        self._objects.setdefault(name, made)

    async def delete(self, name: str, *, force: bool) -> None:
        """Remove a pod, if it is there. `force`: without waiting for its node. Raises PodRefused."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if force:
            options["gracePeriodSeconds"] = 0
        try:
            await self._api.delete(f"{PODS}/{name}", options)
        except ApiRefused as error:
            if error.status != 404:
                raise PodRefused(str(error)) from error
        except ApiAway as error:
            raise PodRefused(str(error)) from error

    async def _owner_reference(self) -> list[Object]:
        if not self._owner:
            return []
        owner = await self._api.get(f"api/v1 configmaps/{self._owner}")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": self._owner, "uid": owner["metadata"]["uid"]}
        # Somebody replaces these pods: `kubectl drain` asks for no force then.
        return [{**reference, "controller": True}]

    def _pod(self, pool: str, name: str, owners: list[Object], avoid: frozenset[str]) -> Object:
        template = copy.deepcopy(self._pools[pool].template)
        metadata = dict(template.get("metadata") or {})
        labels = {**(metadata.get("labels") or {}), **self._labels, POOL: pool, TEMPLATE: self._templates[pool]}
        if avoid:
            _avoid(template["spec"], avoid)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "name": name, "labels": labels, "ownerReferences": owners},
            "spec": template["spec"],
        }


def _avoid(spec: Object, nodes: frozenset[str]) -> None:
    """Have a pod put elsewhere than on these nodes, as strongly as a wish can be."""
    affinity = spec["affinity"] = dict(spec.get("affinity") or {})
    of_nodes = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
    elsewhere = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(nodes)]
    wishes = of_nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    of_nodes["preferredDuringSchedulingIgnoredDuringExecution"] = [
        *wishes, {"weight": 100, "preference": {"matchFields": elsewhere}},
    ]  # fmt: skip


def template_hash(template: Object) -> str:
    """Changes exactly when the template does."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _why(error: ApiRefused | ApiAway, pool: str) -> str:
    text = str(error)
    # As in: pods "x" is forbidden: exceeded quota: compute, requested: ...
    _, quota, rest = text.partition("exceeded quota:")
    return f"exceeded quota in pool {pool}:{rest}" if quota else f"pool {pool}: {text}"


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _waits(source: random.Random) -> Iterator[float]:
    """Seconds between attempts: longer and longer, with jitter."""
    return delays(source, first=0.2, most=10.0)
