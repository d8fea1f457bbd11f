"""Times as messages carry them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(epoch: float) -> Timestamp:
    """Epoch seconds, to the nearest millisecond."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(epoch * 1000))
    return stamp


def written(epoch: float) -> str:
    """`YYYY-MM-DDThh:mm:ss.sss+0000`, as AWS writes when functions and layers were changed."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
