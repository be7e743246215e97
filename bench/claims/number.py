"""A measured number beside a claimed region: estimate, interval, and the tests of both sides.

Everything is decided by whole 95 % intervals, that is by one-sided tests at 2.5 %, against the
claim's bound itself. Not everything has a number to test: two variants may end in the same nets, or
a curve before the phase that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from scipy import stats as distributions

from bench import stats
from bench.claims.units import UNITS

ALPHA = 0.05
"""Two-sided, as everywhere in the tables: half of it on either side."""


@dataclass(frozen=True)
class Region:
    """Where a claim says that the number lies: between `low` and `high`, in the number's unit."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        """As in `> 0`, `< 1`, `-0.5 to 0.5`, `= 1`."""
        if self.low == self.high:
            return f"= {self.low:g}"
        if math.isinf(self.high):
            return f"> {self.low:g}"
        return f"< {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Number:
    """What was measured, with its 95 % interval, over `n` seeds, layers or timed nets."""

    estimate: float
    low: float
    high: float
    n: int
    p_for: float
    """Of the hypothesis that it is not where it is claimed to be; doubled, as two-sided."""
    p_against: float
    """Of the hypothesis that it is."""
    gap: float = math.nan
    """To the nearest bound, on the scale of the unit, as the next one."""
    sd: float = math.nan
    """Over the seeds."""
    over: Literal["seeds", "layers", "repetitions"] = "seeds"
    """What the interval is over: `repetitions` of the timing, where `n` counts nets."""
    lack: Literal["", "same nets", "range not reached"] = ""
    """Why there is nothing to test, and no p value."""


def same_nets(n: int) -> Number:
    """Of two variants that end in the same nets, bit by bit: a difference of exactly nothing."""
    return Number(0.0, 0.0, 0.0, n, math.nan, math.nan, lack="same nets")


def not_reached(n: int) -> Number:
    """Of a phase that begins after the curves end."""
    nan = math.nan
    return Number(nan, nan, nan, n, nan, nan, lack="range not reached")


def by_seeds(values: stats.Seeds, region: Region, unit: str, resolution: float = 0.0) -> Number:
    """The mean over the seeds, on the unit's scale; two or more values, `resolution` their step."""
    scale = UNITS[unit].scale
    on = {seed: scale.forward(value) for seed, value in values.items()}

    @cache
    def against(bound: float) -> stats.Paired:
        return stats.paired(on, dict.fromkeys(on, scale.forward(bound)), resolution=resolution)

    def greater(bound: float) -> float:
        one = against(bound)
        return one.p / 2 if one.difference > 0 else 1 - one.p / 2

    centre = stats.paired(on, dict.fromkeys(on, 0.0), resolution=resolution)
    estimate, low, high = (scale.back(x) for x in centre[:3])
    gaps = [abs(against(b).difference) for b in (region.low, region.high) if math.isfinite(b)]
    return Number(
        estimate, low, high, centre.n, *sides(region, greater), gap=min(gaps), sd=centre.sd
    )


def by_interval(
    estimate: float, low: float, high: float, n: int, region: Region, unit: str
) -> Number:
    """A number of `n` nets that brings its own 95 % interval, over the repetitions of its timing.

    The interval is taken as normal on the unit's scale.
    """
    scale = UNITS[unit].scale
    on, ends = scale.forward(estimate), (scale.forward(low), scale.forward(high))
    error = (ends[1] - ends[0]) / (2 * distributions.norm.ppf(1 - ALPHA / 2))

    def greater(bound: float) -> float:
        return float(distributions.norm.sf((on - scale.forward(bound)) / error))

    return Number(estimate, low, high, n, *sides(region, greater), over="repetitions")


def by_count(holds: int, of: int) -> Number:
    """Of a property that all `of` layers must have, the share that has it: no statistics."""
    share = holds / of
    return Number(share, share, share, of, float(share < 1), float(share == 1), over="layers")


def sides(region: Region, greater: Callable[[float], float]) -> tuple[float, float]:
    """The p values for and against; `greater(bound)` is that of "not above it", one-sided."""
    inside, outside = [], []
    if math.isfinite(region.low):
        inside.append(greater(region.low))
        outside.append(1 - greater(region.low))
    if math.isfinite(region.high):
        inside.append(1 - greater(region.high))
        outside.append(greater(region.high))
    return min(1.0, 2 * max(inside)), min(1.0, 2 * min(outside))
