"""From call times to a row's numbers. Times: milliseconds, arrays (rounds, calls in a turn)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
DRIFT_ROUNDS = 20
"""Fewest rounds whose halves are compared."""


def summarise(times: Times) -> dict[str, float | int]:
    """Count, median, percentiles and minimum over all calls, under the table's column names."""
    p5, p25, median, p75, p95 = np.percentile(times, [5, 25, 50, 75, 95])
    return {
        "n": int(times.size),
        "median_ms": float(median),
        "p5_ms": float(p5),
        "p25_ms": float(p25),
        "p75_ms": float(p75),
        "p95_ms": float(p95),
        "min_ms": float(times.min()),
    }


def drift(side: Times, other: Times) -> float:
    """Relative change, from the first to the second half of the rounds, of the paired ratio.

    0 for fewer rounds than say anything about it: their spread is in the interval.
    """
    if len(side) < DRIFT_ROUNDS:
        return 0.0
    ratio, half = np.median(side, axis=1) / np.median(other, axis=1), len(side) // 2
    return abs(float(np.median(ratio[half:]) / np.median(ratio[:half])) - 1)


def speedup(dense: Times, candidate: Times, seed: int = 0) -> dict[str, float]:
    """How many times faster the candidate is: the ratio of paired medians and its 95 % interval.

    Round i of both was timed back to back, so drift hits both alike. Each round gives one median
    per side; the bootstrap draws whole rounds, both sides together, which keeps the pairing and the
    correlation of calls within a round. The two sides may have different numbers of calls per turn.
    """
    if len(dense) != len(candidate):
        raise ValueError(
            f"unpaired timings: {len(dense)} dense rounds and {len(candidate)} of the candidate"
        )
    above, below = np.median(dense, axis=1), np.median(candidate, axis=1)
    drawn = np.random.default_rng(seed).integers(len(above), size=(RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ratio = np.median(above) / np.median(below)
    return {"speedup": float(ratio), "speedup_low": float(low), "speedup_high": float(high)}
