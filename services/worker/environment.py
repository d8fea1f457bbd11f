"""One execution environment: carries out what `core.environment` decides, on one sandbox.

The warm path is callbacks only: a frame in, a frame to the guest, a frame back, an answer out. Tasks exist for what is
rare: the end of a guest whose exit status is not known yet.
"""

from __future__ import annotations

import asyncio
import logging

from lambent.infra.frames import Invoke, Result
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.core.environment import BUSY, Action, Ended, EnvironmentCore, Event, State
from services.worker.core.outcomes import EXIT_ERROR, Outcome, response_too_large, runtime_unavailable, what_is_told
from services.worker.core.reasons import Reason
from services.worker.counters import InvocationRecord
from services.worker.environment_log import billed, iso
from services.worker.guest import wire
from services.worker.guests import Guest
from services.worker.origins import Origin
from services.worker.sandbox.port import Exit, Sandbox, SandboxSpec, SandboxUnavailable
from services.worker.surroundings import Caller, Host

_log = logging.getLogger(__name__)
_LINGER_SECONDS = 0.1  # how long a process may go on after its socket's end
_EXIT_SECONDS = 5.0  # how long the kernel may take to end one
_SIGKILL = 9
_ALL = 1 << 62  # bytes: whatever still comes


class Environment:
    """One environment of one function version."""

    def __init__(
        self,
        host: Host,
        spec: SandboxSpec,
        deployment: Deployment,
        generation: int,
        stream_id: str,
        *,
        provisioned: bool = False,
        snapshot: Environment | None = None,
        copy: Sandbox | None = None,
    ) -> None:
        """`snapshot`: what it is a copy of; `copy`: one that is there already."""
        self.id = spec.environment_id
        self.slot = spec.slot
        self.generation, self.deployment = generation, deployment
        self.provisioned = provisioned
        self.announced = False
        self._host = host
        self._spec = spec
        self._sandbox: Sandbox | None = None
        self._guest: Guest | None = None
        self._ended: Guest | None = None  # whose end has been noticed
        self._leaving: asyncio.TimerHandle | None = None  # what runs has been told to end, and may take until then
        self._timer: asyncio.TimerHandle | None = None
        self.snapshot, now = snapshot, host.clock.monotonic()
        self.stillborn = False  # its first process ended before it had said anything
        self.begins_as = ""  # why it came of what it came of, where that is told (zygote_tree.py)
        self.begun_by: Outcome | None = None  # how the init phase ended of the snapshot that it was to come of
        self.unfit: str | None = None  # why it cannot be a snapshot: reason, colon, what was found
        self._origin = Origin.of(host, spec, deployment, stream_id, provisioned, snapshot, copy)
        self._core = EnvironmentCore(deployment.timeout_seconds, self._origin.seconds, now, restoring=bool(snapshot))
        self._log = self._origin.log()
        self.used_mb = 0  # most memory that its process has used so far
        self._cold = True  # no invocation has run since the process started
        self.frozen = False
        self.fresh_until = float("inf")  # how long it takes new invocations; its process's credentials say so
        self.idle_since = now
        self.told_to_rest = now
        # The invocation that runs
        self._caller: Caller | None = None
        self._call, self._payload = 0, b""
        self._request: Invoke | None = None
        self._started = 0.0
        self._answer: tuple[str | None, bytes] | None = None  # error type and body as the guest gave them
        self._gone_for = Reason.STOPPED  # why it was stopped

    @property
    def busy(self) -> bool:
        """Whether an invocation runs."""
        return self._core.state in BUSY

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._core.state

    @property
    def outcome(self) -> Outcome | None:
        """Of what failed last."""
        return self._core.outcome

    @property
    def sandbox(self) -> Sandbox | None:
        """What it runs in."""
        return self._sandbox

    def start(self) -> None:
        """Take a sandbox and begin the init phase. Raises SandboxUnavailable."""
        if not self._host.programs.missing(self.deployment):
            sandbox, snapshot = self._origin.first()
            self._adopt(sandbox, snapshot)
            self._origin.say_begun(self._log, snapshot)  # within an invocation AWS's log has no such line
        else:
            self._host.loop.call_soon(self._lacks_runtime)
        self._arm(self._core.deadline)

    # Invocations

    def invoke(self, request: Invoke, payload: bytes, caller: Caller, call: int) -> Reason | None:
        """Begin an invocation; a reason: it was not begun."""
        core, host = self._core, self._host
        if not core.allows(Event.INVOKE):
            return Reason.STARTING if core.state is State.STARTING else Reason.BUSY
        if self.frozen:
            host.freezer.thaw(self)
        now = host.clock.monotonic()
        actions = core.invoke(request.request_id, now)
        self._caller, self._call, self._request, self._payload = caller, call, request, payload
        if core.state is State.QUEUED:
            return None  # its time begins when what goes on after the last one has ended
        self._begin(actions)
        return None

    def prepare(self, request: Invoke, payload: bytes, caller: Caller, call: int) -> Reason | None:
        """Tell how the init phase went; nothing runs. A reason: it has not ended."""
        state = self._core.state
        if state not in (State.READY, State.COLD):
            return Reason.STARTING if state is State.STARTING else Reason.BUSY
        failed = self._core.outcome if state is State.COLD else self.begun_by
        caller.answer(call, *self._origin.prepared(failed, self.begins_as, self.used_mb, stillborn=self.stillborn))
        return None

    def _begin(self, actions: tuple[Action, ...]) -> None:
        """The time of an invocation begins."""
        core, request = self._core, self._request
        self._started = self._host.clock.epoch()
        if request is not None:
            self._log.start(request.request_id, self._started)
        self._act(actions)
        if self._timer is None and (core.state is State.INVOKING or core.state is State.INITIALISING):
            self._arm(core.deadline)
        # Else a timer of an earlier invocation runs, which comes no later and is set on then.

    def forget_caller(self, caller: Caller) -> None:
        """The caller has gone: what runs goes on, its answer is dropped."""
        if self._caller is caller:
            self._caller = None
            self.credit(_ALL)

    def credit(self, size: int) -> None:
        """The caller has taken so many bytes of a response that streams."""
        if self._guest is not None:
            self._guest.credit(size)

    def stop(self, reason: Reason) -> None:
        """End it, at once and for good."""
        if self._core.state is State.STOPPED:
            if self._leaving is not None and reason is Reason.CLOSING:
                self._leave()
            return
        if reason is Reason.WORN and self._spec.snapshot:
            return  # it goes with its last copy (snapshots.py)
        if self.frozen:
            self._host.freezer.thaw(self)
        self._gone_for = reason
        self._act(self._core.stop())
        if self._leaving is None:
            self._gone()
        elif reason is Reason.CLOSING:
            self._leave()

    def rest(self) -> None:
        """Nothing is to come for a while."""
        if self._guest is not None:
            self._guest.rest()

    def show_log(self) -> None:
        """Let who follows the log see what has been written for a while."""
        self._log.show(self._host.clock.epoch())

    def _gone(self) -> None:
        self._log.flush(self._host.clock.epoch())
        self._host.environment_gone(self, self._gone_for)

    # Actions

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if action is Action.SEND:
                self._send()
            elif action is Action.ANSWER:
                self._finish()
            elif action is Action.KILL:
                self._kill()
            elif action is Action.REVIVE:
                self._revive()
            elif action is Action.ANNOUNCE:
                self._announce()
            elif action is Action.REPORT_INIT:
                self._report_init()

    def _send(self) -> None:
        request, guest = self._request, self._guest
        if request is None or guest is None:
            return  # no process could be had: the invocation has been answered
        deadline = int((self._started + self.deployment.timeout_seconds) * 1000)
        payload, self._payload = self._payload, self._payload if self._core.restoring else b""
        guest.invoke(request, deadline, payload)

    def _announce(self) -> None:
        self._disarm()
        self.idle_since = self._host.clock.monotonic()
        if not self.announced:
            self.announced = True
            self._host.counters.inits += 1
            self._host.environment_ready(self)

    def _report_init(self) -> None:
        host, outcome = self._host, self._core.outcome
        if self.unfit is not None:
            return
        host.counters.init_failures += 1
        if outcome is not None:
            self.stillborn = outcome.error_type == EXIT_ERROR
            elapsed = self._core.init_elapsed_ms(host.clock.monotonic())
            self._origin.say_ended(self._log, elapsed, outcome.status, outcome.error_type)

    def _kill(self) -> None:
        self._disarm()
        guest, core = self._guest, self._core
        if guest is not None and (core.state is State.STOPPED or core.state is State.COLD):
            seconds = guest.end(self._why(), self._leave)
            if seconds and self._leaving is None:
                self._leaving = self._host.loop.call_later(seconds, self._leave)
        self._cold = True
        if self._leaving is None:
            self._end()
        else:
            self._drain()  # the answer has what was printed until now

    def _why(self) -> str:
        if self._core.state is State.STOPPED:
            return "SPINDOWN"
        outcome = self._core.outcome
        return "TIMEOUT" if outcome is not None and outcome.reason is Reason.TIMED_OUT else "FAILURE"

    def _end(self) -> None:
        """Nothing runs from here on."""
        self._drain()
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.close()
        if self._sandbox is not None:
            if self._core.state is State.STOPPED:
                self._sandbox.destroy("stopped")
            else:
                self._sandbox.kill()  # its file system stays for the next process

    def _leave(self) -> None:
        """What was told to end has ended, or its time has."""
        if self._leaving is None:
            return
        self._leaving.cancel()
        self._leaving = None
        self._end()
        if self._core.state is State.STOPPED:
            self._gone()

    def _revive(self) -> None:
        self._leave()
        try:
            if self._sandbox is None:
                self._host.loop.call_soon(self._lacks_runtime)
            else:
                sandbox, snapshot = self._origin.again(self._sandbox, copied=not self.stillborn)
                self._adopt(sandbox, snapshot)
                self._core.revived(self._host.clock.monotonic(), restoring=snapshot is not None)
        except SandboxUnavailable as error:
            _log.error("no process for an environment", extra={"environment": self.id, "cause": str(error)})
            self._act(self._core.exited(Ended(None, 9, False), self._host.clock.monotonic()))
        if self._timer is None and self._core.state is State.INITIALISING:
            self._arm(self._core.deadline)

    def _adopt(self, sandbox: Sandbox, snapshot: Environment | None) -> None:
        """`snapshot`: a copy of this one is in the sandbox."""
        self._sandbox = sandbox
        if not self._spec.snapshot:
            self._host.freezer.started(self)
        self._guest, task = self._origin.guest(self, sandbox, snapshot)
        self._log.tap = self._guest.tap
        self._guest.begin(task)

    def _lacks_runtime(self) -> None:
        """This worker lacks what the function needs."""
        if self._core.allows(Event.INIT_FAILED):
            outcome = runtime_unavailable(self._core.request_id, self._host.programs.missing(self.deployment))
            self._act(self._core.init_failed(outcome.error_type, outcome.document))

    # What the guest does

    def guest_frame(self, kind: int, meta: bytes, payload: bytes) -> None:
        core = self._core
        if len(meta) < wire.USAGE.size:
            self.guest_ended(True)
            return
        used = wire.USAGE.unpack_from(meta)[0] >> 10
        if used > self.used_mb:
            self.used_mb = min(used, self.deployment.memory_mb)
        if kind == wire.RESPONSE and core.allows(Event.ANSWERED):
            self._answer = (None, payload)
            self._answered()
        elif kind == wire.ERROR and core.allows(Event.ANSWERED):
            self._answer = (wire.text(meta), payload)
            self._answered()
        elif kind == wire.READY and core.allows(Event.INITED):
            self._drain()
            if self._guest is not None:
                self._log.tap = self._guest.tap  # who has not subscribed by now is told of nothing
            starting = core.state is State.STARTING
            self._act(core.inited(self._host.clock.monotonic()))
            if self._sandbox is not None:
                self._sandbox.initialised()
            if starting and core.init_ms is not None:
                self._origin.say_ended(self._log, core.init_ms, None, "")
        elif kind == wire.INIT_ERROR and core.allows(Event.INIT_FAILED):
            self._act(core.init_failed(wire.text(meta), payload))
        elif kind == wire.UNSHAREABLE and self._spec.snapshot and core.allows(Event.INIT_FAILED):
            self.unfit = wire.text(meta)
            self._act(core.init_failed(wire.text(meta), b""))
        else:
            self.guest_ended(True)

    def tell_fallback(self, reason: str, details: str) -> None:
        """Say in the log why it is no copy."""
        self._log.fallback(reason, details, self._host.clock.epoch())

    def _answered(self) -> None:
        early = self._guest is not None and not self._guest.settled
        self._act(self._core.answered(early=early))

    def guest_settled(self) -> None:
        """After an answer, the runtime and its extensions wait for the next event."""
        core = self._core
        if not core.allows(Event.SETTLED):
            return
        queued = core.state is State.QUEUED
        self.idle_since = self._host.clock.monotonic()
        actions = core.settled(self.idle_since)
        if queued:
            self._begin(actions)
        else:
            self._act(actions)

    def guest_exited(self, status: int | None, signal: int | None) -> None:
        """The runtime has ended by itself; what it ran in goes on."""
        if self._core.allows(Event.EXITED) and self._sandbox is not None:
            memory = signal == _SIGKILL and self._sandbox.out_of_memory()
            self._broken(self._core.exited(Ended(status, signal, memory), self._host.clock.monotonic()))

    def guest_failed(self, error_type: str, text: str) -> None:
        """An extension cannot go on, and so the environment cannot."""
        if self._core.allows(Event.EXITED):
            self._broken(self._core.failed(error_type, text, self._host.clock.monotonic()))

    def _broken(self, actions: tuple[Action, ...]) -> None:
        if self._core.state is State.INITIALISING:
            self._begin(actions)  # an invocation waited for the end of what went on: it begins anew
        else:
            self._act(actions)

    def guest_streams(self, content_type: str) -> bool:
        """The response begins to come piece by piece; False: the caller does not take it so."""
        request = self._request
        if request is None or not request.streams or self._core.state is not State.INVOKING:
            return False
        if self._caller is not None:
            self._caller.streams(self._call, content_type)
        else:
            self.credit(_ALL)  # nobody takes it, and nobody waits for that
        return True

    def guest_piece(self, data: bytes) -> None:
        """The next bytes of it."""
        if self._caller is not None:
            self._caller.piece(self._call, data)

    def guest_extension_printed(self, data: bytes) -> None:
        """What an extension printed."""
        self._log.extension_printed(data, self._host.clock.epoch())

    def guest_recorded(self, text: bytes) -> None:
        """A log record that the runtime framed itself."""
        self._log.record(text, self._host.clock.epoch())

    def guest_printed(self, data: bytes) -> None:
        self._log.write(data, self._host.clock.epoch())

    def _drain(self) -> None:
        if self._guest is not None:
            self._guest.drain()

    def guest_ended(self, broken: bool) -> None:
        """The guest's socket has ended, or what came was no frame of ours."""
        sandbox = self._sandbox
        if sandbox is None or self._guest is None or self._ended is self._guest:
            return
        self._ended = self._guest  # once: what is no frame may be followed by much more of the kind
        if broken and self.busy:
            # The guest announced more than it may send, or the function writes on our socket.
            outcome = response_too_large(self._host.limits.sync_response_bytes)
            self._answer = (outcome.error_type, outcome.document)
        if broken:
            sandbox.kill()
        self._host.tasks.start(f"exit-{self.id}", self._wait_for_exit(sandbox))

    async def _wait_for_exit(self, sandbox: Sandbox) -> None:
        waiting = asyncio.ensure_future(sandbox.exited())
        done, _ = await asyncio.wait((waiting,), timeout=_LINGER_SECONDS)
        if not done:
            sandbox.kill()  # a process that has closed its socket and lives on is of no use
            done, _ = await asyncio.wait((waiting,), timeout=_EXIT_SECONDS)
        waiting.cancel()
        how = waiting.result() if done else Exit(None, 9, False)
        if self._sandbox is not sandbox or self._guest is None:
            return
        if self._core.restoring and self._core.state is State.INITIALISING and not how.out_of_memory:
            self.stillborn = True  # the invocation that waits need not fail for it
            self._disarm()
            self._end()
            self._revive()
            self._send()
        elif self._core.allows(Event.EXITED):
            ended = Ended(how.status, how.signal, how.out_of_memory)
            self._broken(self._core.exited(ended, self._host.clock.monotonic()))

    # Time

    def _arm(self, deadline: float) -> None:
        delay = deadline - self._host.clock.monotonic()
        self._timer = self._host.loop.call_later(max(0.0, delay), self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        core = self._core
        if not core.allows(Event.EXPIRED):
            return
        now = self._host.clock.monotonic()
        if now < core.deadline:
            self._arm(core.deadline)  # the loop's clock runs a little ahead
            return
        self._broken(core.expire(now))

    # The answer

    def _finish(self) -> None:
        host, core, request = self._host, self._core, self._request
        if request is None:
            return
        now = self.idle_since = host.clock.monotonic()
        self._drain()
        epoch = host.clock.epoch()
        duration = (now - core.invoked_at) * 1000
        init_ms = core.take_init_ms()
        restore_ms, init_ms = (init_ms, None) if core.restoring else (None, init_ms)
        answer, self._answer = self._answer, None
        outcome, error_type, body, status, crashed = what_is_told(answer, core.outcome, request.request_id)
        if outcome is not None and outcome.line is not None and answer is None:
            at = f"{iso(epoch)} {request.request_id} " if status == "timeout" else ""
            self._log.note(at + outcome.line, epoch)
        bill, used = billed(duration), self.used_mb
        tail = self._log.report(
            duration, bill, used, init_ms, restore_ms, status, error_type, epoch, crashed=crashed, tail=request.tail,
            trace=request.trace, produced=len(body),
        )  # fmt: skip
        cold, self._cold = self._cold, core.state is not State.READY
        caller, call, self._caller, self._request = self._caller, self._call, None, None
        counters = host.counters
        counters.invocations += 1
        counters.cold += cold
        reason = None if outcome is None else outcome.reason
        error = None if error_type is None else "Unhandled"
        if error_type is not None:
            counters.count_error(reason)
        if caller is not None:
            reusable = core.state is not State.STOPPED and now < self.fresh_until
            result = Result(error, error_type, duration, init_ms, bill, used, self._started, tail, reusable)
            caller.answer(call, result, body)
        if host.on_invocation is not None:
            told = (self._started, duration, init_ms, error_type, reason, cold)
            host.on_invocation(InvocationRecord(request.request_id, request.arn, request.trace, *told))
