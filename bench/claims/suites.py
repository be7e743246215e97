"""Published suites as claims ask for them: rows of a variant at a density, or a clear error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.claims.schema import ClaimError, pick
from bench.tables.cells import GROUP, cells, finished
from bench.tables.measures import Measure, measure

if TYPE_CHECKING:
    import pandas as pd


def open_suite(published: Path, name: str) -> Suite:
    """The suite published in the folder `name`."""
    there = sorted(file.parts[-3] for file in published.glob("*/tables/points.csv"))
    pick(name, there, "suite: nothing is published as")
    return Suite(name, published / name / "tables")


@dataclass(frozen=True)
class Suite:
    """The tidy tables of one published suite, read when they are asked for."""

    name: str
    folder: Path

    @cached_property
    def points(self) -> pd.DataFrame:
        """The table `points`."""
        return tidy.read(self.folder, "points")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row per variant, requested density and seed; see `bench.tables.cells`."""
        return cells(self.points)

    @cached_property
    def ends(self) -> pd.DataFrame:
        """The last point of each finished run."""
        done = finished(self.points)
        return done[done["final"]]

    @cached_property
    def before_ends(self) -> pd.DataFrame:
        """The last point but one of each finished run that has more than one."""
        done = finished(self.points)
        last = done.groupby("run")["point"].transform("max")
        return done[done["point"] == last - 1]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The table `runs`."""
        return tidy.read(self.folder, "runs")

    @cached_property
    def history(self) -> pd.DataFrame:
        """The table `history`."""
        return tidy.read(self.folder, "history")

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The table `layers`."""
        return tidy.read(self.folder, "layers")

    @cached_property
    def latency(self) -> pd.DataFrame:
        """The table `latency`."""
        return tidy.read(self.folder, "latency")

    @cached_property
    def measure(self) -> Measure:
        """What its tables compare: accuracy, or an error."""
        return measure(self.points)

    def rows(self, variant: str, density: float | str, key: str) -> pd.DataFrame:
        """The finished runs of `variant` at that density, two seeds or more, one row each.

        `density`: one that was asked for, `end` or `before end`. `key`: where the claim names the
        variant. Raises `ClaimError` if there are none or fewer, or if they are of several nets.
        """
        ends = self.before_ends if density == "before end" else self.ends
        table = ends if isinstance(density, str) else self.cells
        pick(variant, sorted(set(table["variant"])), f"{key}: {self.name} has no variant")
        own = table[table["variant"] == variant]
        if not isinstance(density, str):
            there = sorted(set(own["target_density"]), reverse=True)
            if density not in there:
                shown = ", ".join(f"{value:g}" for value in there)
                raise ClaimError(
                    f"densities: {variant} of suite {self.name} has no {density:g}; "
                    f"there are: {shown}"
                )
            own = own[own["target_density"] == density]
        if len(own[GROUP].drop_duplicates()) > 1:
            raise ClaimError(f"suite: {self.name} has {variant} on several nets or data sets")
        if own["seed"].duplicated().any() or len(own) < 2:
            raise ClaimError(
                f"densities: {variant} of suite {self.name} at {density} has "
                f"{len(own)} runs of {own['seed'].nunique()} seeds; it takes one of each, of two "
                "seeds or more"
            )
        return own

    def lines(self, event: str, columns: Iterable[str], runs: Iterable[str]) -> pd.DataFrame:
        """The lines of that `event` of these runs in `history`, with a number in all `columns`."""
        table = self.history
        pick(event, sorted(set(table["event"])), f"event: the history of {self.name} has no")
        for column in columns:
            pick(column, table.columns, f"column: the history of {self.name} has no")
        own = table[(table["event"] == event) & table["run"].isin(list(runs))]
        own = own.dropna(subset=list(columns))
        if silent := sorted(set(runs) - set(own["run"])):
            raise ClaimError(f"event: {', '.join(silent)} logged no {event} with these columns")
        return own


def place(rows: pd.DataFrame) -> str:
    """Where these runs were: `lenet5 on fashion_mnist`, and the tier if it is not the equal one."""
    dataset, arch, tier = rows.iloc[0][GROUP]
    return f"{arch} on {dataset}" + (f", {tier} tier" if tier != "equal" else "")
