"""Frames survive any cutting of the stream; what is no frame is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.infra import frames

metas = st.one_of(
    st.builds(frames.Hello, st.text(), st.text()),
    st.builds(
        frames.Invoke,
        st.integers(0, 2**31),
        st.text(),
        st.text(),
        st.text(),
        st.text(),
        st.none() | st.text(),
        st.booleans(),
    ),
    st.builds(frames.Reject, st.text()),
)
KINDS = {frames.Hello: frames.Kind.HELLO, frames.Invoke: frames.Kind.INVOKE, frames.Reject: frames.Kind.REJECT}


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), metas, st.binary(max_size=300)), max_size=6),
    st.lists(st.integers(1, 50)),
)
def test_any_cutting_gives_the_same_frames(sent: list[tuple[int, frames.Meta, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frames.encode(KINDS[type(meta)], call, meta, payload) for call, meta, payload in sent)  # type: ignore[index]
    reader, received = frames.FrameReader(), []
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert received == [(KINDS[type(meta)], call, meta, payload) for call, meta, payload in sent]  # type: ignore[index]


@given(st.binary(min_size=frames.HEAD_BYTES, max_size=200))
def test_noise_is_a_frame_error_or_nothing_yet(noise: bytes) -> None:
    try:
        frames.FrameReader().feed(noise)
    except frames.FrameError:
        return


def test_a_frame_that_claims_too_much_is_refused_at_once() -> None:
    with pytest.raises(frames.FrameError):
        frames.FrameReader().feed((2**32 - 1).to_bytes(4, "little") + bytes(13))
