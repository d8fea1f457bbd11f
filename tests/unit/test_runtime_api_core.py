"""What the Runtime API and the Extensions API answer in every state, and the pace of a response that streams."""

from __future__ import annotations

import json
from itertools import count, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.limits import Limits
from lambent.infra.frames import WINDOW
from services.worker.runtime_api.core import RUNTIME, Answer, ApiCore, Held, Identity, Runtime, Signal, error_type
from services.worker.runtime_api.routes import Route, find
from services.worker.runtime_api.streaming import ResponseStream
from services.worker.runtime_api.telemetry import InvalidSubscription, subscription

OF_THE_RUNTIME = (Route.NEXT, Route.RESPONSE, Route.ERROR, Route.INIT_ERROR)
ALLOWED = {
    (Runtime.STARTED, Route.NEXT),
    (Runtime.STARTED, Route.INIT_ERROR),
    (Runtime.POLLING, Route.NEXT),
    (Runtime.RUNNING, Route.RESPONSE),
    (Runtime.RUNNING, Route.ERROR),
    (Runtime.RESPONDED, Route.NEXT),
}


def core(*external: str) -> ApiCore:
    numbers = count(1)
    return ApiCore(Identity("fn", "7", "app.handler", "123456789012"), external, lambda: f"id-{next(numbers)}")


def register(api: ApiCore, name: str, *events: str) -> str:
    answer, _ = api.call(Route.REGISTER, "", {"lambda-extension-name": name}, json.dumps({"events": events}).encode())
    assert isinstance(answer, Answer)
    assert answer.status == 200, answer.body
    return dict(answer.headers)["Lambda-Extension-Identifier"]


def poll(api: ApiCore, who: str) -> tuple[Signal, ...]:
    if who == RUNTIME:
        held, signals = api.call(Route.NEXT, "", {}, b"")
    else:
        held, signals = api.call(Route.EVENT_NEXT, "", {"lambda-extension-identifier": who}, b"")
    assert held == Held(who)
    return signals


@pytest.mark.parametrize(("state", "route"), list(product(Runtime, OF_THE_RUNTIME)))
def test_what_is_not_listed_is_an_invalid_transition(state: Runtime, route: Route) -> None:
    api = core()
    api.runtime, api.request_id = state, "r"
    answer, signals = api.call(route, "r", {}, b"{}")
    if (state, route) in ALLOWED:
        assert not isinstance(answer, Answer) or answer.status == 202
        return
    assert isinstance(answer, Answer)
    assert (answer.status, json.loads(answer.body)["errorType"]) == (403, "InvalidStateTransition")
    assert (signals, api.runtime) == ((), state)


@given(st.lists(st.sampled_from(["runtime", "watch", "other", "answer", "offer"]), max_size=60))
def test_whatever_the_order_events_begin_only_when_all_wait_and_settle_once(steps: list[str]) -> None:
    api = core("watch", "other")
    who = {"runtime": RUNTIME, "watch": register(api, "watch", "INVOKE"), "other": register(api, "other", "SHUTDOWN")}
    inited = settled = offered = 0
    for step in steps:
        if step == "offer":
            if not (api.inited and api.idle and offered == settled):
                continue
            offered += 1
            assert api.offer(f"r{offered}") == [RUNTIME, who["watch"]]
        elif step == "answer":
            if api.runtime is Runtime.RUNNING:
                assert api.call(Route.RESPONSE, api.request_id, {}, b"1")[1] == (Signal.RESPONDED,)
        elif step != "runtime" or api.runtime is not Runtime.RUNNING:
            signals = poll(api, who[step])
            inited += Signal.INITED in signals
            settled += Signal.SETTLED in signals
        assert inited <= 1
        assert settled <= offered <= settled + 1
        assert api.inited is (inited == 1)


def test_the_runtime_starts_when_every_external_extension_has_registered() -> None:
    api = core("one", "two")
    register(api, "one")
    answer, signals = api.call(Route.REGISTER, "", {"lambda-extension-name": "two"}, b'{"events": ["SHUTDOWN"]}')
    assert signals == (Signal.REGISTERED,)
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == {"functionName": "fn", "functionVersion": "7", "handler": "app.handler"}
    assert api.shutdown() == ["id-2"]


def test_no_more_extensions_than_ten() -> None:
    api = core()
    for number in range(10):
        register(api, f"internal{number}", "INVOKE")
    answer, _ = api.call(Route.REGISTER, "", {"lambda-extension-name": "more"}, b'{"events": []}')
    assert isinstance(answer, Answer)
    assert json.loads(answer.body)["errorType"] == "Extension.TooManyExtensions"


@pytest.mark.parametrize(
    ("header", "document", "named"),
    [
        ("Unhandled", b'{"errorType": "Boom"}', "Boom"),
        ("Runtime.Odd", b"no json", "Runtime.Odd"),
        ("", b'{"errorType": 7}', "Runtime.Unknown"),
        ("", b"[" * 100_000, "Runtime.Unknown"),
        ("x" * 1000, b"", "x" * 256),
    ],
)
def test_the_type_of_an_error(header: str, document: bytes, named: str) -> None:
    assert error_type(header, document) == named


@pytest.mark.parametrize("route", list(Route))
def test_every_route_is_found_by_its_path_and_verb_alone(route: Route) -> None:
    verb, path = route.value
    request = "r-1" if "{}" in path else ""
    assert find(verb, path.replace("{}", "r-1")) == (route, request, False)
    assert find("PATCH", path.replace("{}", "r-1")) == (None, "", True)
    assert find(verb, path.replace("{}", "r-1") + "/more") == (None, "", False)


def test_a_response_is_paced_after_what_is_free() -> None:
    stream = ResponseStream(Limits(streamed_free_bytes=1000, streamed_bytes_per_second=100.0))
    assert stream.sent(1000, 5.0) == 0.0
    assert stream.sent(50, 5.0) == 0.5  # from here on, as fast as the rate
    assert stream.sent(50, 5.5) == pytest.approx(0.5)
    assert stream.sent(50, 9.0) == 0.0  # what was not used is not lost


@given(st.lists(st.integers(1, 100_000), max_size=40))
def test_no_more_is_on_its_way_than_the_window_and_one_piece(pieces: list[int]) -> None:
    stream, waiting = ResponseStream(Limits()), 0
    for size in pieces:
        if stream.full:
            stream.taken(waiting)
            waiting = 0
        stream.sent(size, 0.0)
        waiting += size
        assert waiting < WINDOW + size
        assert stream.full is (waiting >= WINDOW)


HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/x"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"types": ["platform"]}, "mandatory"),
        ({"types": [], "destination": HTTP}, "types must be"),
        ({"types": ["odd"], "destination": HTTP}, "types must be"),
        ({"types": ["platform"], "destination": {"protocol": "UDP"}}, "protocol must be"),
        ({"types": ["platform"], "destination": {"protocol": "TCP", "port": 0}}, "port must be"),
        ({"types": ["platform"], "destination": {**HTTP, "URI": "http://10.0.0.1:80"}}, "sandbox.localdomain"),
        ({"types": ["platform"], "destination": HTTP, "buffering": {"maxItems": 1}}, "maxItems must be between"),
        ({"types": ["platform"], "destination": HTTP, "schemaVersion": "1999-01-01"}, "schemaVersion"),
        ("text", "mandatory"),
    ],
)
def test_a_subscription_that_makes_no_sense_says_why(asked: Any, why: str) -> None:
    with pytest.raises(InvalidSubscription, match=why):
        subscription(json.dumps(asked).encode())


def test_events_wait_until_there_are_enough_or_they_have_waited_enough() -> None:
    asked = {"types": ["platform"], "destination": HTTP, "buffering": {"timeoutMs": 100, "maxItems": 1000}}
    made = subscription(json.dumps(asked).encode())
    made.add("function", b"{}", 1.0)  # of another kind
    assert not made.due(9.0)
    made.add("platform.start", b'{"a":1}', 1.0)
    made.add("platform.report", b'{"b":2}', 1.05)
    assert (made.due(1.09), made.due(1.1)) == (False, True)
    assert made.take() == b'[{"a":1},{"b":2}]'
    assert not made.due(99.0)
    for _ in range(1500):
        made.add("platform.start", b"{}", 2.0)
    assert (made.due(2.0), made.dropped) == (True, 500)
