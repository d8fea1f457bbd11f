"""What users notice when parts go: nothing, or a moment's wait."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.harness import eventually, printed, zipped
from tests.kube.on_a_node import KILL, beside
from tests.kube.release import NOW, Load, Release, report


def begun(release: Release, function: str, count: int) -> bool:
    """Whether so many invocations that run for long have begun: their lines come before they end."""
    logs, group = release.client("logs", retries=3), f"/aws/lambda/{function}"
    return len(printed(logs, group, "began")) - len(printed(logs, group, "REPORT")) >= count


NAP = zipped(
    {
        "app.py": "import time\n"
        "def handler(event, context):\n"
        "    print('began', context.aws_request_id, flush=True)\n"
        "    time.sleep(event.get('s', 0) if isinstance(event, dict) else 0)\n"
        "    print('ran', event.get('n'))\n"
        "    return event.get('n')\n"
    }
)


def test_the_leader_goes_and_no_invocation_on_a_held_lease_fails(release: Release) -> None:
    release.create("steady", NAP)
    before = release.leader()
    with Load(release, "steady", 4, b'{"n": 1}').running() as load:
        release.kill(before)
        killed = NOW()
        eventually(lambda: release.leader() not in ("", before), 60)
        # One that holds no lease yet: it waits for the new leader.
        release.create("fresh", NAP)
        answer = release.client(retries=3).invoke(FunctionName="fresh", Payload=b'{"n": 2}')
        assert json.load(answer["Payload"]) == 2
        took = NOW() - killed
    assert load.failures == []
    assert set(load.answers) == {"1"}
    report(f"new leases {took:.1f} s after the leader was killed; slowest invocation {load.slowest:.1f} s")
    eventually(lambda: len(release.ready("scheduler")) == 2, 60)


def test_the_leader_crashes_and_nobody_waits_until_its_time_has_passed(release: Release) -> None:
    release.create("held", NAP)
    release.create("anew", NAP)
    eventually(lambda: len(release.ready("scheduler")) == 2, 120)
    before = release.leader()
    client = release.client(retries=8)
    with beside(release, before) as python, Load(release, "held", 4, b'{"n": 1}').running() as load:
        python(KILL, before)
        killed = NOW()
        answer = client.invoke(FunctionName="anew", Payload=b'{"n": 2}')
        assert json.load(answer["Payload"]) == 2
        took = NOW() - killed
    assert load.failures == []
    assert set(load.answers) == {"1"}
    report(f"new leases {took:.1f} s after the leader had crashed; slowest invocation {load.slowest:.1f} s")
    eventually(lambda: len(release.ready("scheduler")) == 2, 60)


def test_a_worker_that_is_deleted_drains_and_nobody_notices(release: Release) -> None:
    for name in ("nap", "long"):
        release.create(name, NAP)
    with ThreadPoolExecutor(4) as threads, Load(release, "nap", 4, b'{"n": 1}').running() as load:
        long = [
            threads.submit(release.client().invoke, FunctionName="long", Payload=b'{"s": 6, "n": 7}') for _ in range(4)
        ]
        eventually(lambda: begun(release, "long", 4), 60)
        for name in release.ready("worker")[:1]:
            release.kubectl("delete", "pod", name, "--wait=false")
        answers = [each.result() for each in long]
    assert [json.load(answer["Payload"]) for answer in answers] == [7] * 4
    assert load.failures == []
    eventually(lambda: release.ready("worker"), 60)


def test_a_worker_that_crashes_is_replaced_and_its_callers_are_told_at_once(release: Release) -> None:
    release.create("crash", NAP)
    client = release.client()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(client.invoke, FunctionName="crash", Payload=b'{"s": 50}')
        eventually(lambda: begun(release, "crash", 1), 60)
        for name in release.ready("worker"):
            with beside(release, name) as python:
                python(KILL, name)  # as the kernel does where memory is out
        error = running.exception(timeout=40)
    assert "ServiceException" in str(error) or "ResourceNotReady" in str(error), error
    answer = release.client(retries=8).invoke(FunctionName="crash", Payload=b'{"n": 3}')
    assert json.load(answer["Payload"]) == 3


def test_no_accepted_event_is_lost_whatever_goes(release: Release) -> None:
    release.create("event", NAP)
    client = release.client(retries=6)
    sent: list[int] = []
    for number in range(120):
        client.invoke(FunctionName="event", InvocationType="Event", Payload=json.dumps({"n": number, "s": 0.05}))
        sent.append(number)
        if number % 30 == 15:
            component = ("poller", "frontend", "worker", "scheduler")[number // 30]
            victim = release.ready(component)[0]
            if component == "worker":
                # Not at once: what a function wrote last is lost with its worker, and this test counts by that.
                release.kubectl("delete", "pod", victim, "--wait=false")
            else:
                release.kill(victim)
    logs = release.client("logs", retries=6)

    def ran() -> Counter[int]:
        return Counter(int(message.split()[1]) for message in printed(logs, "/aws/lambda/event", "ran"))

    eventually(lambda: set(ran()) == set(sent), 180)
