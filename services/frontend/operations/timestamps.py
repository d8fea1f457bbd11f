"""Times as messages carry them."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(epoch: float) -> Timestamp:
    """Epoch seconds, to the nearest millisecond."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(epoch * 1000))
    return stamp
