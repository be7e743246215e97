"""One measurement at one of its densities: the rows that it is about, and what kinds share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.claims.measurements import Bounded, Gap, Measurement
from bench.claims.number import Number, Region
from bench.claims.schema import ClaimError, pick
from bench.claims.suites import Suite, place
from bench.claims.verdict import Check
from bench.stats import Seeds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class At:
    """One measurement at one of its densities, with the variant's rows there."""

    measure: Measurement
    suite: Suite
    density: Any
    rows: pd.DataFrame

    def check(
        self,
        number: Number,
        unit: str,
        region: Region,
        label: str = "",
        other: str = "",
        runs: Iterable[str] = (),
        epochs: str = "",
    ) -> Check:
        """The check of a number that was read off these rows, and perhaps the `other`'s `runs`."""
        density = "" if isinstance(self.density, str) else f"{100 * self.density:.3g} %"
        return Check(
            label=", ".join(part for part in (self.measure.label, density, label) if part),
            place=place(self.rows),
            suite=self.measure.suite,
            variant=self.measure.variant,
            other=other,
            unit=unit,
            region=region,
            number=number,
            runs=(*self.rows["run"], *runs),
            beside=self.measure.beside,
            epochs=epochs,
        )

    @property
    def seeds(self) -> dict[str, int]:
        """Run -> seed."""
        return dict(zip(self.rows["run"], self.rows["seed"], strict=True))


def bounds(measure: Bounded) -> Region:
    """Where the claim says that the number lies."""
    if measure.above is not None:
        return Region(low=measure.above)
    if measure.below is not None:
        return Region(high=measure.below)
    assert isinstance(measure, Gap)
    assert measure.within
    return Region(-measure.within, measure.within)


def by_seed(rows: pd.DataFrame, column: str) -> Seeds:
    """Seed -> number, of the seeds that have one."""
    pick(column, rows.columns, "column: points have no")
    there = rows.dropna(subset=[column])
    return dict(zip(there["seed"], there[column].astype("float64"), strict=True))


def shared(key: str, own: Seeds, other: Seeds) -> list[int]:
    """The seeds of both; `ClaimError` if they are fewer than two."""
    seeds = sorted(set(own) & set(other))
    if len(seeds) < 2:
        raise ClaimError(f"{key}: {len(seeds)} seeds have a number on both sides; it takes two")
    return seeds


def spoken(column: str) -> str:
    """The name of a column in a text."""
    return column.replace("_", " ").replace("bop", "BOP")
