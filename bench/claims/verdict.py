"""From numbers to verdicts: is a number, with its interval, where the paper says that it is?

Everything is decided by whole 95 % intervals, that is by one-sided tests at 2.5 %. Of a claim with
several checks (densities, variants) the p values are corrected by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from scipy import stats as distributions

from bench import stats
from bench.claims.units import UNITS

ALPHA = 0.05
"""Two-sided, as everywhere in the tables: half of it on either side."""

Outcome = Literal["yes", "no", "open"]
Verdict = Literal[
    "reproduced", "partly reproduced", "within noise", "not reproduced", "not tested yet",
    "not testable",
]  # fmt: skip
VERDICTS: dict[Verdict, str] = {
    "reproduced": "every check: the whole interval is on the claimed side",
    "partly reproduced": "some checks; the others are open, none is on the other side",
    "within noise": "every check is open: its interval holds both sides",
    "not reproduced": "a check's whole interval is on the other side",
    "not tested yet": "no published suite answers it; the row says what it would take",
    "not testable": "not with what is known or runs here; the row says why",
}
"""Each verdict and when it is given, from best to least informed."""


@dataclass(frozen=True)
class Region:
    """Where a claim says that the number lies: between `low` and `high`, in the number's unit.

    `slack`: what is that near to the bound is no advantage. Surely below `low` + `slack` is against
    the claim, so two equal things end as "not reproduced", not as noise that seeds would resolve.
    """

    low: float = -math.inf
    high: float = math.inf
    slack: float = 0.0

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


@dataclass(frozen=True)
class Check:
    """One number that answers a claim: what it is, of which runs, and what it says."""

    label: str
    place: str
    """Net, data set and tier."""
    suite: str
    variant: str
    other: str
    """What it is compared to, if anything."""
    unit: str
    region: Region
    number: Number
    runs: tuple[str, ...]
    p_for: float = math.nan
    """Corrected over the claim's checks, as the next one; see `settle`."""
    p_against: float = math.nan
    outcome: Outcome = "open"
    seeds_needed: int | None = None
    """For 80 % power at the distance seen; None: more than 10,000, or not a matter of seeds."""


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
    """A number that brings its own 95 % interval, taken as normal on the unit's scale."""
    scale = UNITS[unit].scale
    on, ends = scale.forward(estimate), (scale.forward(low), scale.forward(high))
    error = (ends[1] - ends[0]) / (2 * distributions.norm.ppf(1 - ALPHA / 2))

    def greater(bound: float) -> float:
        return float(distributions.norm.sf((on - scale.forward(bound)) / error))

    return Number(estimate, low, high, n, *sides(region, greater))


def by_count(holds: int, of: int) -> Number:
    """Of a property that all `of` things must have, the share that has it: no statistics."""
    share = holds / of
    return Number(share, share, share, of, float(share < 1), float(share == 1))


def sides(region: Region, greater: Callable[[float], float]) -> tuple[float, float]:
    """The p values for and against; `greater(bound)` is that of "not above it", one-sided."""
    inside, outside = [], []
    if math.isfinite(region.low):
        inside.append(greater(region.low))
        outside.append(1 - greater(region.low + region.slack))
    if math.isfinite(region.high):
        inside.append(1 - greater(region.high))
        outside.append(greater(region.high - region.slack))
    return min(1.0, 2 * max(inside)), min(1.0, 2 * min(outside))


def settle(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks of one claim, p values corrected over all of them, each with its outcome.

    What both tests reject is an advantage that is sure and too small to be one: a no.
    """
    p_for = stats.holm([check.number.p_for for check in checks])
    p_against = stats.holm([check.number.p_against for check in checks])
    settled = []
    for check, yes, no in zip(checks, p_for, p_against, strict=True):
        outcome: Outcome = "no" if no < ALPHA else "yes" if yes < ALPHA else "open"
        number, level = check.number, ALPHA / len(checks)
        needed = stats.seeds_needed(number.gap, number.sd, alpha=level)
        settled.append(
            replace(check, p_for=yes, p_against=no, outcome=outcome, seeds_needed=needed)
        )
    return tuple(settled)


def verdict(checks: Sequence[Check]) -> Verdict:
    """Of a claim with these settled checks, one or more; see `VERDICTS`.

    A claim is about all of its checks: one that speaks against it is enough.
    """
    outcomes = {check.outcome for check in checks}
    if "no" in outcomes:
        return "not reproduced"
    if "yes" not in outcomes:
        return "within noise"
    return "partly reproduced" if "open" in outcomes else "reproduced"
