"""Gaps in accuracy or error: a variant minus another one that has the same size, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.claims.at import At, bounds, by_seed, shared
from bench.claims.measurements import Gap
from bench.claims.number import by_seeds, same_nets
from bench.claims.schema import ClaimError
from bench.claims.verdict import Check
from bench.method import load
from bench.stats import Seeds, interpolate

if TYPE_CHECKING:
    import pandas as pd

APART = 0.02
"""Relative: sides whose mean densities differ by more are not of equal size."""


@dataclass(frozen=True)
class Rival:
    """What is subtracted: a number per seed, the rows that it is from, and how both trained."""

    values: Seeds
    rows: pd.DataFrame
    paired: bool
    """Whether a row is the whole answer for its seed, as a variant at the same density is."""
    epochs: str = ""


def gap(measure: Gap, at: At) -> Iterator[Check]:
    """Variant minus another, in points."""
    own = by_seed(at.rows, measure.column)
    other = rival(measure, at)
    seeds = shared("column", own, other.values)
    region = bounds(measure)
    if other.paired and alike(at.rows, other.rows, seeds, measure.column):
        number = same_nets(len(seeds))
    else:
        values = {seed: 100 * (own[seed] - other.values[seed]) for seed in seeds}
        resolution = 100 * at.suite.measure.resolution(float(at.rows["test_samples"].iloc[0]))
        number = by_seeds(values, region, "points", resolution)
    runs = list(dict.fromkeys(other.rows["run"]))
    yield at.check(number, "points", region, other=measure.other, runs=runs, epochs=other.epochs)


def rival(measure: Gap, at: At) -> Rival:
    """What the claim compares to."""
    if measure.other == "dense":
        return dense(measure, at)
    key = "minus" if measure.minus else "control"
    if measure.equal == "macs":
        return at_equal_macs(measure, at, key)
    rows = at.suite.rows(measure.other, at.density, key)
    if measure.sizes == "equal":
        refuse_unequal(at.rows, rows, measure)
    return Rival(by_seed(rows, measure.column), rows, paired=True)


def dense(measure: Gap, at: At) -> Rival:
    """The dense net that each run started from, or is compared to."""
    every = at.suite.ends.set_index("run", drop=False)
    if missing := sorted(set(at.rows["dense"].dropna()) - set(every.index)):
        raise ClaimError(f"minus: {at.suite.name} has no dense run {', '.join(missing)}")
    own = every.loc[list(at.rows["dense"])].assign(seed=list(at.rows["seed"]))
    column = "value" if measure.column == "value_before" else measure.column
    return Rival(by_seed(own, column), own, paired=False, epochs=trained(at.rows, own))


def trained(rows: pd.DataFrame, dense: pd.DataFrame) -> str:
    """As in `dense trained 10 epochs, this 10 + 3`; means over the seeds.

    A method that starts from the dense net has that net's epochs and its own.
    """
    first, own = (side["epochs"].astype("float64").mean() for side in (dense, rows))
    started = load(rows["method"].iloc[0]).start == "dense"
    return f"dense trained {first:.3g} epochs, this {f'{first:.3g} + ' * started}{own:.3g}"


def at_equal_macs(measure: Gap, at: At, key: str) -> Rival:
    """The other variant where its curve over all densities has as many multiply-adds, by seed."""
    import pandas as pd

    densities = sorted(set(at.suite.cells.query("variant == @measure.other")["target_density"]))
    own = by_seed(at.rows, "theoretical_speedup")
    rows = pd.concat([at.suite.rows(measure.other, d, key) for d in densities or [at.density]])
    values = {}
    for seed, curve in rows.groupby("seed"):
        there = interpolate(
            (1 / curve["theoretical_speedup"]).tolist(),
            curve[measure.column].astype("float64").tolist(),
            1 / own.get(int(seed), math.nan),
        )
        if there is not None:
            values[int(seed)] = there
    return Rival(values, rows, paired=False)


def refuse_unequal(rows: pd.DataFrame, other: pd.DataFrame, measure: Gap) -> None:
    """Raise `ClaimError` where the sides have different sizes; more weights would be the reason."""
    own, theirs = (float(side["density"].mean()) for side in (rows, other))
    if abs(own / theirs - 1) > APART:
        raise ClaimError(
            f"sizes: {measure.variant} has a density of {own:.4g} and {measure.other} one of "
            f"{theirs:.4g}; compare them where they are equal, or give sizes: unequal and a note"
        )


def alike(rows: pd.DataFrame, other: pd.DataFrame, seeds: list[int], column: str) -> bool:
    """Whether both sides are the same nets, bit by bit, of every seed."""
    one, two = (side.set_index("seed").loc[seeds] for side in (rows, other))
    equal = [(one[name] == two[name]).fillna(False) for name in ("digest", column)]
    return bool(all(each.all() for each in equal))
