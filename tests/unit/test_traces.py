"""Readers of the published traces, and the statistics of the generated one."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from pathlib import Path

import pytest

from services.scheduler.simulator import distributions
from services.scheduler.simulator.azure import EXPANSIONS, HEADER_2019, Azure2019, Azure2021, read
from services.scheduler.simulator.generator import SWING, TIMERS, Generated
from services.scheduler.simulator.trace import Trace, TraceError

DURATIONS = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum," + ",".join(
    f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100)
)
MEMORY = "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1"


def counts(**by_minute: int) -> str:
    """Counts of a day: m7=3 are three in the seventh minute."""
    return ",".join(str(by_minute.get(f"m{minute}", 0)) for minute in range(1, 1441))


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def of_2019(folder: Path, *rows: str) -> Path:
    return write(folder, "invocations.csv", ",".join(HEADER_2019), *rows)


def load(path: Path, **more: object) -> Trace:
    given = {"durations": None, "memory": None, "expansion": "uniform", "most": None, "seed": 1, **more}
    return read(path, **given)  # type: ignore[arg-type]


def test_the_trace_of_2019_is_counts_execution_times_and_memory(tmp_path: Path) -> None:
    path = of_2019(tmp_path, f"o,a,f,http,{counts(m1=2, m3=5)}", f"o,a,g,timer,{counts(m3=1, m1440=1)}")
    durations = write(tmp_path, "d.csv", DURATIONS, "o,a,f,9,9,9,9,10,20,30,40,50,60,70", "x,y,z,9,9,9,9,1,1,1,1,1,1,1")
    memory = write(tmp_path, "m.csv", MEMORY, "o,a,5,300.4,1")
    trace = load(path, durations=durations, memory=memory)
    assert isinstance(trace, Azure2019)
    assert [(f.name, f.memory_mb) for f in trace.functions] == [("f", 300), ("g", 300)]
    minutes = list(trace.minutes())
    assert (len(minutes), trace.seconds) == (1440, 86_400.0)
    assert [number for _, number, _ in minutes[0]] == [0, 0]
    assert sorted(number for _, number, _ in minutes[2]) == [0] * 5 + [1]
    assert len(minutes[1439]) == 1
    for number, minute in enumerate(minutes):
        assert minute == sorted(minute)
        assert all(60.0 * number <= at <= 60.0 * (number + 1) for at, _, _ in minute)
    assert all(0.010 <= lasted <= 0.070 for minute in minutes for _, number, lasted in minute if number == 0)
    assert list(trace.minutes()) == minutes
    assert len(load(path, most=1).functions) == 1


def test_execution_times_follow_the_percentiles(tmp_path: Path) -> None:
    path = of_2019(tmp_path, f"o,a,f,http,{counts(m1=4000)}")
    durations = write(tmp_path, "d.csv", DURATIONS, "o,a,f,9,9,9,9,0,100,200,400,800,1600,3200")
    [minute, *_] = load(path, durations=durations).minutes()
    lasted = sorted(seconds for _, _, seconds in minute)
    for share, seconds in ((0.25, 0.2), (0.5, 0.4), (0.75, 0.8)):
        assert lasted[int(share * len(lasted))] == pytest.approx(seconds, rel=0.1)
    assert lasted[int(0.98 * len(lasted))] < 1.6 < lasted[-1] <= 3.2


@pytest.mark.parametrize("name", sorted(EXPANSIONS))
@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_invocations_are_spread_over_their_minute(name: str, count: int) -> None:
    at = EXPANSIONS[name](count, random.Random(3))
    assert len(at) == count
    assert at == sorted(at)
    assert at[0] >= 0.0
    assert at[-1] <= 60.0
    gaps = [later - sooner for sooner, later in itertools.pairwise(at)]
    if name == "equidistant" and gaps:
        assert gaps == pytest.approx([60.0 / count] * (count - 1))
    if count == 500:
        assert statistics.fmean(at) == pytest.approx(30.0, rel=0.1)


def test_the_trace_of_2021_is_single_invocations_that_end_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path, "t.csv", "app,func,end_timestamp,duration",
        "a,f,100.5,0.5", "a,g,130.0,90.0", "b,f,165.0,5.0", "a,f,230.0,1000",
    )  # fmt: skip
    trace = load(path)
    assert isinstance(trace, Azure2021)
    assert [f.name for f in trace.functions] == ["a-f", "a-g", "b-f"]
    # The last one began at -770: it begins the trace. AWS would have ended it after fifteen minutes.
    arrivals = [arrival for minute in trace.minutes() for arrival in minute]
    assert arrivals == [(0.0, 0, 900.0), (810.0, 1, 90.0), (870.0, 0, 0.5), (930.0, 2, 5.0)]
    assert (trace.seconds, len(list(trace.minutes()))) == (960.0, 16)
    assert len(load(path, most=2).functions) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["app,func,when"], ":1: the heading is of neither trace"),
        (["app,func,end_timestamp,duration", "a,f,1"], ":2: 3 columns where the heading has 4"),
        (["app,func,end_timestamp,duration", "a,f,1,2", "a,f,x,1"], ":3: end_timestamp cannot be 'x'"),
        (["app,func,end_timestamp,duration", "a,f,1,-2"], ":2: duration cannot be '-2'"),
        (["app,func,end_timestamp,duration", "a,f,1,nan"], ":2: duration cannot be 'nan'"),
        ([",".join(HEADER_2019), "o,a,f,http,1"], ":2: 5 columns where the heading has 1444"),
        ([",".join(HEADER_2019), "o,a,f,http," + "0," * 1439 + "many"], ":2: minute 1440 cannot have 'many'"),
        ([",".join(HEADER_2019), "o,a,f,http," + "0," * 1439 + "-1"], ":2: minute 1440 cannot have '-1'"),
        ([",".join(HEADER_2019[:-1])], ":1: the heading is of neither trace"),
        ([""], ":1: the heading is of neither trace"),
    ],
)
def test_a_malformed_trace_is_named_by_file_and_line(tmp_path: Path, lines: list[str], said: str) -> None:
    path = write(tmp_path, "bad.csv", *lines)
    with pytest.raises(TraceError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}{said}")
    assert "\n" not in str(error.value)


def test_files_beside_a_trace_are_checked_too(tmp_path: Path) -> None:
    path = of_2019(tmp_path, f"o,a,f,http,{counts(m1=1)}")
    falling = write(tmp_path, "falling.csv", DURATIONS, "o,a,f,9,9,9,9,7,6,5,4,3,2,1")
    other = write(tmp_path, "other.csv", "HashOwner,HashApp,Megabytes", "o,a,1")
    with pytest.raises(TraceError, match=r"falling\.csv:2: percentiles that do not grow"):
        load(path, durations=falling)
    with pytest.raises(TraceError, match=r"other\.csv:1: there is no column AverageAllocatedMb"):
        load(path, memory=other)
    with pytest.raises(TraceError, match=r"cannot read .*nowhere\.csv: No such file"):
        load(tmp_path / "nowhere.csv")
    with pytest.raises(TraceError, match="belong to the trace of 2019"):
        load(write(tmp_path, "t.csv", "app,func,end_timestamp,duration"), memory=other)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\0")
    with pytest.raises(TraceError, match="neither trace"):
        load(binary)


def test_an_empty_trace_has_no_invocation(tmp_path: Path) -> None:
    trace = load(write(tmp_path, "t.csv", "app,func,end_timestamp,duration"))
    assert [list(minute) for minute in trace.minutes()] == [[]]


def test_distributions_have_the_published_quantiles() -> None:
    memory = [distributions.memory_mb(u) for u in (0.05, 0.5, 0.75, 0.9, 0.95, 0.99)]
    assert memory == pytest.approx([95, 140, 183, 262, 343, 640], rel=0.01)
    times = [distributions.lognormal(u, *distributions.EXECUTION) for u in (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)]
    assert times == pytest.approx([0.14, 0.68, 3.36, 14.1, 33.0, 166.0], rel=0.02)
    assert distributions.lognormal(0.5, *distributions.COLD_START) == pytest.approx(1.35, rel=0.01)


@pytest.fixture(scope="module")
def generated() -> tuple[Generated, list[tuple[float, int, float]]]:
    trace = Generated(500, 86_400.0, 200_000, 5)
    return trace, [arrival for minute in trace.minutes() for arrival in minute]


def test_the_generated_trace_is_as_skewed_and_as_large_as_was_asked(
    generated: tuple[Generated, list[tuple[float, int, float]]],
) -> None:
    trace, arrivals = generated
    assert len(arrivals) == pytest.approx(200_000, rel=0.25)
    assert arrivals == sorted(arrivals, key=lambda arrival: arrival[0])
    of_function = Counter(number for _, number, _ in arrivals)
    shares = sorted(of_function.values(), reverse=True)
    assert sum(shares[:50]) > 0.9 * len(arrivals)
    assert sum(1 for number in range(500) if of_function[number] <= 24) > 0.4 * 500
    assert all(0.0 < lasted <= 900.0 for _, _, lasted in arrivals)
    assert statistics.median(f.memory_mb for f in trace.functions) == pytest.approx(140, rel=0.1)


def test_timers_are_regular_and_others_come_in_bursts(
    generated: tuple[Generated, list[tuple[float, int, float]]],
) -> None:
    trace, arrivals = generated
    times: dict[int, list[float]] = {}
    for at, number, _ in arrivals:
        times.setdefault(number, []).append(at)
    variation = {}
    for number, moments in times.items():
        gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
        if len(gaps) > 20:
            variation[number] = statistics.pstdev(gaps) / statistics.fmean(gaps)
    regular = [number for number, value in variation.items() if value < 0.05]
    assert 0 < len(regular) <= TIMERS * len(trace.functions)
    # A Poisson process would have 1.
    assert statistics.median(value for number, value in variation.items() if number not in regular) > 1.3


def test_it_is_busier_by_day_than_by_night(generated: tuple[Generated, list[tuple[float, int, float]]]) -> None:
    hours = Counter(int(at // 3600) for at, _, _ in generated[1])
    day, night = sum(hours[hour] for hour in (10, 11, 12, 13)), sum(hours[hour] for hour in (22, 23, 0, 1))
    assert day / night == pytest.approx(SWING, rel=0.3)


def test_other_seeds_give_other_traces() -> None:
    first, again, other = (list(Generated(20, 3600.0, 10_000, seed).minutes()) for seed in (1, 1, 2))
    assert first == again
    assert first != other
