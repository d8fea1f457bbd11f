"""How often functions have run in a chain of requests: counted, carried in headers, and no more believed than is due."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from lambent.domain import lineage, tracing
from lambent.domain.lineage import MOST_FUNCTIONS, after, mark, merged, parse, written
from tests.records import ONE, OTHER

ROOT = "Root=1-67891233-abcdef012345678912345678"
MARKS = st.text("0123456789abcdef", min_size=8, max_size=8)
LINEAGES = st.dictionaries(MARKS, st.integers(0, 9999), max_size=MOST_FUNCTIONS)


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_each_function_is_counted_by_itself(ran: list[str]) -> None:
    chain = lineage.NONE
    for name in ran:
        chain = after(chain, mark(ONE, name))
    assert chain == {mark(ONE, name): ran.count(name) for name in ran}


def test_a_function_is_who_it_is_wherever_else_there_is_one_of_its_name() -> None:
    assert len({mark(ONE, "f"), mark(OTHER, "f"), mark(ONE, "g")}) == 3
    assert mark(ONE, "f") == mark(ONE, "f")


@given(LINEAGES)
def test_a_header_carries_all_of_it_also_through_what_sdks_encode(chain: lineage.Lineage) -> None:
    header = tracing.TraceContext("67891233abcdef012345678912345678", None, False, chain).xray
    sent = quote(header, safe="-=;:+&[]{}\"',")  # as botocore does
    assert tracing.lineage_of(sent) == chain
    assert parse(written(chain)) == chain


@given(LINEAGES, MARKS)
def test_there_is_room_for_so_many_functions_and_the_one_that_runs_is_among_them(
    chain: lineage.Lineage, name: str
) -> None:
    within = after(chain, name)
    assert len(within) <= MOST_FUNCTIONS
    assert within[name] == min(chain.get(name, 0) + 1, 9999)
    left_out = [chain[other] for other in chain if other not in within]
    assert len(left_out) <= 1
    assert all(count <= min(within[other] for other in within if other != name) for count in left_out)


@given(st.lists(LINEAGES, max_size=4))
def test_of_several_chains_the_longest_counts(chains: list[lineage.Lineage]) -> None:
    assert merged(chains) == {
        name: max(chain.get(name, 0) for chain in chains) for chain in chains for name in chain
    }  # fmt: skip


def test_what_is_no_lineage_says_nothing() -> None:
    for text in ("", ",", "x", "0123456:1", "012345678:1", "0123456G:1", "01234567:", "01234567:-1", "01234567:10000"):
        assert parse(text) == {}
    assert parse("rubbish,01234567:2,89abcdef:x") == {"01234567": 2}
    assert len(parse(",".join(f"{number:08x}:1" for number in range(1000)))) == MOST_FUNCTIONS
    for header in (None, "", "Lineage=01234567:2", f"{ROOT};Sampled=0", "00-67891233abcdef012345678912345678-Lineage"):
        assert tracing.lineage_of(header) == {}
    assert tracing.lineage_of(f"{ROOT};Lineage=01234567:2;Sampled=0") == {"01234567": 2}
