"""How an environment's processes begin: with an init phase of their own, or as copies of a snapshot; and what its log
says of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lambent.domain.names import Tenant
from lambent.domain.runtimes import runtime_arn, runtime_version
from lambent.infra.frames import Prepared, Result
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.core.environment import State
from services.worker.core.outcomes import Outcome
from services.worker.environment_log import EnvironmentLog
from services.worker.guests import Guest, guest_for
from services.worker.sandbox.port import Sandbox, SandboxSpec, SandboxUnavailable
from services.worker.surroundings import Host
from services.worker.variables import environment_variables, log_group_name, log_stream_name

if TYPE_CHECKING:
    from services.worker.environment import Environment

_FLOOD_BYTES = 4 * 1024 * 1024  # of output in one invocation


@dataclass(frozen=True, slots=True)
class Origin:
    """Of one environment."""

    host: Host
    spec: SandboxSpec
    deployment: Deployment
    stream: str  # log stream
    provisioned: bool
    snapshot: Environment | None  # what it is a copy of
    copy: Sandbox | None  # one that was made in advance

    @classmethod
    def of(
        cls,
        host: Host,
        spec: SandboxSpec,
        deployment: Deployment,
        stream_id: str,
        provisioned: bool,
        snapshot: Environment | None,
        copy: Sandbox | None,
    ) -> Origin:
        """That of an environment which begins now."""
        stream = log_stream_name(deployment, stream_id, host.clock.epoch())
        return cls(host, spec, deployment, stream, provisioned, snapshot, copy)

    @property
    def tenant(self) -> Tenant:
        """Whose it is."""
        return Tenant(self.deployment.account, self.deployment.region)

    @property
    def initialization(self) -> str:
        """AWS's name for it."""
        if self.snapshot is not None or self.spec.snapshot:
            return "snap-start"
        return "provisioned-concurrency" if self.provisioned else "on-demand"

    @property
    def seconds(self) -> float:
        """How long the init phase, or the restore, may take."""
        limits, timeout = self.host.limits, float(self.deployment.timeout_seconds)
        if self.snapshot is not None:
            return limits.restore_seconds
        if self.spec.snapshot:
            return max(limits.snapshot_init_seconds, timeout)
        return max(limits.provisioned_init_seconds, timeout) if self.provisioned else limits.init_seconds

    def log(self) -> EnvironmentLog:
        """The environment's log stream."""
        deployment = self.deployment
        return EnvironmentLog(
            self.host.logs,
            self.tenant,
            log_group_name(deployment),
            deployment.function_name,
            deployment.version,
            self.stream,
            json_form=deployment.log_format == "JSON",
            application_level=deployment.application_log_level,
            system_level=deployment.system_log_level,
            initialization=self.initialization,
            memory_mb=deployment.memory_mb,
            tail_bytes=self.host.limits.log_tail_bytes,
            tenant_id=deployment.tenant_id,
            flood_bytes=_FLOOD_BYTES,
        )

    def first(self) -> tuple[Sandbox, Environment | None]:
        """The first sandbox, and the snapshot that a copy of is in it. Raises SandboxUnavailable."""
        if self.copy is None:
            return self._made()
        self.copy.wanted()
        return self.copy, self.snapshot

    def _made(self) -> tuple[Sandbox, Environment | None]:
        if self.snapshot is None:
            return self.host.pool.take(self.spec), None
        if self.snapshot.sandbox is None or self.snapshot.sandbox.ended or self.snapshot.state is not State.READY:
            raise SandboxUnavailable("the snapshot has ended")
        return self.host.pool.restore(self.spec, self.snapshot.sandbox), self.snapshot

    def again(self, old: Sandbox, *, copied: bool) -> tuple[Sandbox, Environment | None]:
        """The same after the process in `old` has ended; that sandbox is destroyed by it. Raises SandboxUnavailable.

        /tmp stays as it was left. For a copy of a snapshot it is the snapshot's again, or empty where no other copy can
        be had. `copied`: whether one has come to life before.
        """
        if self.snapshot is None:
            return old.reset(), None
        old.destroy("restored again")
        try:
            if copied:
                return self._made()
        except SandboxUnavailable:
            pass  # an init phase is better than nothing
        return self.host.pool.take(self.spec), None

    def guest(
        self, owner: Environment, sandbox: Sandbox, snapshot: Environment | None
    ) -> tuple[Guest, Mapping[str, Any]]:
        """What runs in a sandbox, with credentials that are new, and what it is told first."""
        host, deployment = self.host, self.deployment
        at_most = float("inf") if snapshot is None else snapshot.fresh_until
        environ = environment_variables(
            deployment,
            self.stream,
            sandbox,
            initialization=self.initialization,
            endpoints=host.endpoints.variables(self.tenant, deployment.variables),
            credentials=host.credentials.variables(owner, at_most),
            image=self.spec.image,
        )
        return guest_for(host, owner, sandbox, self.spec, deployment, environ, restored=snapshot is not None)

    def prepared(self, failed: Outcome | None, reason: str, used_mb: int, *, stillborn: bool) -> tuple[Result, bytes]:
        """What an environment in which nothing runs says of its init phase. `failed`: it did not go well; that of a
        snapshot did, whatever became of the copy. `stillborn`: the copy did not come to life."""
        now = self.host.clock.epoch()
        if failed is not None and self.snapshot is None:
            error_type, document = failed.error_type, failed.document
            return Result("Unhandled", error_type, 0.0, None, 0, used_mb, now, None, True), document
        body = msgspec.json.encode(Prepared(self.snapshot is not None and not stillborn, reason))
        return Result(None, None, 0.0, None, 0, used_mb, now, None, True), body

    def say_begun(self, log: EnvironmentLog, snapshot: Environment | None) -> None:
        """That the environment begins."""
        now = self.host.clock.epoch()
        if self.spec.image is not None:
            log.init_start(None, None, "init", now)  # what an image runs on, AWS has no version of
            return
        version = runtime_version(self.deployment.runtime)
        arn = runtime_arn(self.deployment.region, version)
        if snapshot is None:
            log.init_start(version, arn, "init", now)
        else:
            log.restore_start(version, arn, now)

    def say_ended(self, log: EnvironmentLog, took_ms: float, status: str | None, error_type: str) -> None:
        """How that went; `status` as in the log's lines. Of an init phase that went well, only a snapshot's is told."""
        now = self.host.clock.epoch()
        if self.snapshot is not None:
            log.restore_report(took_ms, status, error_type, now)
        elif status is not None or self.spec.snapshot:
            log.init_report(took_ms, status, error_type, now)
