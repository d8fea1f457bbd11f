"""What stands in for what a trace does not say, and for its cold starts. Drawn by inversion: u in (0, 1).

Sources: execution time and memory, the fits of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020); cold starts,
mean and deviation over all regions of "Serverless Cold Starts and Where to Find Them" (Joosen et al., EuroSys 2025).
"""

from __future__ import annotations

import math
import random
from statistics import NormalDist

_NORMAL = NormalDist()
# Logarithm of seconds: mean and deviation.
EXECUTION = (-0.38, 2.36)
COLD_START = (0.296, 1.326)
# Burr XII: c, k and the scale in MB.
MEMORY = (11.652, 0.221, 107.083)


def lognormal(u: float, mu: float, sigma: float) -> float:
    """A quantile of a lognormal distribution."""
    return math.exp(mu + sigma * _NORMAL.inv_cdf(u))


def lognormal_share(x: float, mu: float, sigma: float) -> float:
    """The share of a lognormal distribution at or below `x`."""
    return _NORMAL.cdf((math.log(x) - mu) / sigma) if x > 0 else 0.0


def memory_mb(u: float) -> float:
    """A quantile of an application's memory, MB."""
    c, k, scale = MEMORY
    return scale * math.pow(math.pow(1.0 - u, -1.0 / k) - 1.0, 1.0 / c)


def unit(rng: random.Random) -> float:
    """Uniform in the open interval: inversion has no value at its ends."""
    return rng.random() or 0.5
