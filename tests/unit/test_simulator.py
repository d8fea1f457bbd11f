"""The simulated cluster on traces that can be worked out by hand, and what it says of them."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from lambent.infra.config import ConfigError, load
from services.scheduler.simulator.figures import Delays, Figures
from services.scheduler.simulator.generator import Generated
from services.scheduler.simulator.report import Report
from services.scheduler.simulator.trace import Arrival, TraceFunction
from services.scheduler.simulator.wiring import simulate, variants

BASE = load(None, {}, {})


@dataclass
class Written:
    """A trace written out."""

    functions: Sequence[TraceFunction]
    arrivals: Sequence[Arrival]
    seconds: float

    def minutes(self) -> Iterator[list[Arrival]]:
        for minute in range(int(self.seconds // 60)):
            yield [a for a in self.arrivals if minute * 60 <= a[0] < minute * 60 + 60]


def run(trace: Written | Generated, *texts: str) -> Report:
    return simulate(trace, variants(texts, BASE), hours=None, seed=1, progress=lambda done, seconds: None)


def one(trace: Written, text: str) -> Figures:
    [figures] = run(trace, text).figures
    return figures


def test_a_fixed_keep_alive_gives_exactly_the_expected_cold_starts_and_warm_time() -> None:
    """One GB; starts take 2 s, invocations 3 s, leases are held for no time. Kept for 100 s: the second invocation, 95 s
    after the first's end, is warm, the third, 101 s after that, is not; the last one's time ends with the trace."""
    arrivals = [(10.0, 0, 3.0), (110.0, 0, 3.0), (214.0, 0, 3.0)]
    trace = Written([TraceFunction("f", 1024)], arrivals, 300.0)
    figures = one(trace, "k:keep_alive_seconds=100,lease_hold_seconds=0,start_seconds=2")
    assert (figures.invocations, figures.ran, figures.cold, figures.starts) == (3, 3, 2, 2)
    assert figures.busy == pytest.approx(9.0)
    assert figures.starting == pytest.approx(4.0)
    # 15 to 110, 113 to 213, 219 to 300.
    assert figures.warm == pytest.approx(95.0 + 100.0 + 81.0)
    assert figures.warm_to_busy == pytest.approx(276.0 / 9.0)
    assert figures.delays.percentile(0.33) == 0.0
    assert figures.delays.percentile(0.5) == pytest.approx(2.0, rel=0.02)


def test_a_held_lease_is_given_back_and_keep_alive_begins_then() -> None:
    trace = Written([TraceFunction("f", 1024)], [(10.0, 0, 3.0)], 300.0)
    assert one(trace, "k:keep_alive_seconds=100,lease_hold_seconds=7,start_seconds=0").warm == pytest.approx(107.0)


def test_memory_time_beyond_the_end_of_the_trace_is_not_counted() -> None:
    trace = Written([TraceFunction("f", 512)], [(50.0, 0, 100.0)], 60.0)
    figures = one(trace, "k:start_seconds=4")
    assert (figures.ran, figures.busy, figures.starting, figures.warm) == (1, 3.0, 2.0, 0.0)


def test_what_exceeds_the_limit_is_throttled_and_counted_by_reason() -> None:
    arrivals = [(10.0 + number / 100, 0, 30.0) for number in range(5)]
    trace = Written([TraceFunction("f", 128)], arrivals, 120.0)
    figures = one(trace, "k:concurrent_executions=2,start_seconds=1")
    assert (figures.ran, figures.cold) == (2, 2)
    assert figures.throttled == {"ConcurrentInvocationLimitExceeded": 3}


def test_without_room_an_invocation_waits_and_is_refused() -> None:
    trace = Written([TraceFunction("f", 512)], [(10.0, 0, 30.0), (11.0, 0, 1.0)], 120.0)
    figures = one(trace, "k:workers=1,memory_mb=512,start_seconds=1,capacity_wait_seconds=5")
    assert figures.throttled == {"NoCapacity": 1}
    assert one(trace, "k:workers=2,memory_mb=512,start_seconds=1").ran == 2


def test_a_timer_is_served_by_environments_started_ahead() -> None:
    arrivals = [(10.0 + 1200.0 * number, 0, 1.0) for number in range(24)]
    trace = Written([TraceFunction("f", 1024)], arrivals, 28_800.0)
    fixed, ours = run(
        trace, "a:keep_alive_seconds=600,start_seconds=1",
        "b:keep_alive_seconds=600,start_seconds=1,keep_alive_policy=hybrid-histogram",
    ).figures  # fmt: skip
    assert (fixed.cold, fixed.ahead) == (24, 0)
    # Eleven until ten idle times are known.
    assert (ours.cold, ours.ahead) == (11, 14)
    assert ours.warm < 0.65 * fixed.warm


@pytest.mark.parametrize("seed", range(3))
def test_each_invocation_runs_or_is_throttled_once(seed: int) -> None:
    report = run(
        Generated(40, 7200.0, 60_000, seed), "roomy", "tight:concurrent_executions=5,workers=1,memory_mb=2048",
        "two:callers=2,keep_alive_policy=hybrid-histogram,histogram_samples=2",
    )  # fmt: skip
    assert len({f.invocations for f in report.figures}) == 1
    for figures in report.figures:
        assert figures.ran + figures.throttled.total() == figures.invocations > 0
        assert figures.warm >= 0.0
    assert report.figures[1].throttled.total() > 0


def test_the_same_seed_gives_the_same_report() -> None:
    texts = ("a", "b:keep_alive_policy=hybrid-histogram")
    first, again = (run(Generated(30, 3600.0, 50_000, 7), *texts).document() for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":keep_alive_seconds=1", "begins with a name"),
        ("a:keep_alive=1", "did you mean keep_alive_policy or keep_alive_seconds?"),
        ("a:keepalive_second=1", "did you mean keep_alive_seconds?"),
        ("a:keep_alive_seconds=soon", "must be of type float"),
        ("a:keep_alive_policy=forever", "cannot be 'forever'"),
        ("a:http=127.0.0.1:1", "sets nothing that a simulation follows"),
        ("a:workers", "SETTING=VALUE"),
        ("a:workers=0", "must be at least 1"),
        ("a:start_seconds=slow", "cannot be 'slow'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^--setting") as error:
        variants([text], BASE)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_names_are_unique_and_whole_names_work() -> None:
    with pytest.raises(ConfigError, match="two of this name"):
        variants(["a", "a:workers=2"], BASE)
    [found] = variants(["a:timing.lease_seconds=3,limits.concurrent_executions=7"], BASE)
    assert (found.settings.timing.lease_seconds, found.settings.limits.concurrent_executions) == (3.0, 7)


def test_delays_are_known_within_two_percent() -> None:
    delays = Delays()
    assert delays.percentile(0.5) == 0.0
    for number in range(1, 1001):
        delays.add(number / 100)
    for share in (0.01, 0.5, 0.99, 1.0):
        assert delays.percentile(share) == pytest.approx(share * 10, rel=0.02)


def test_the_picture_has_every_setting_and_measure_as_svg_and_as_png() -> None:
    report = run(Written([TraceFunction("f", 128)], [(1.0, 0, 1.0)], 60.0), "first", "a<b")
    picture = report.picture()
    drawn = ET.fromstring(picture.svg())
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("first") == texts.count("a<b") == 4
    png = picture.png()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (picture.width, picture.height)
    data = zlib.decompress(png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8])
    assert len(data) == picture.height * (1 + 3 * picture.width)
    assert len(set(zip(data[1::3], data[2::3], data[3::3], strict=False))) > 3
