"""How each kind of measurement becomes checks: numbers by seed out of published tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scipy.stats import pearsonr, spearmanr

from bench.claims import schema
from bench.claims.schema import ClaimError, pick
from bench.claims.shape import changes
from bench.claims.suites import Suite, place
from bench.claims.verdict import Check, Number, Region, by_count, by_interval, by_seeds
from bench.stats import Seeds
from bench.tables import speed

if TYPE_CHECKING:
    import pandas as pd

NEGLIGIBLE = 0.1
"""Points: an advantage smaller than this is none (ten of 10,000 test images)."""


@dataclass(frozen=True)
class At:
    """One measurement at one of its densities, with the variant's rows there."""

    measure: schema.Measurement
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
    ) -> Check:
        """The check of a number that was read off these rows, and perhaps the `other`'s `runs`."""
        density = "" if self.density == "end" else f"{100 * self.density:.3g} %"
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
        )

    @property
    def seeds(self) -> dict[str, int]:
        """Run -> seed."""
        return dict(zip(self.rows["run"], self.rows["seed"], strict=True))


def checks(measure: schema.Measurement, suite: Suite) -> Iterator[Check]:
    """The checks of one measurement, in its order; `ClaimError` names a key without an answer."""
    densities = measure.densities
    for density in [densities] if isinstance(densities, str) else densities:
        rows = suite.rows(measure.variant, density, "variant")
        yield from KINDS[type(measure)](measure, At(measure, suite, density, rows))


def bounds(measure: schema.Bounded, slack: float = 0.0) -> Region:
    """Where the claim says that the number lies; `slack` is for claims of any advantage at all."""
    slack = slack if 0 in (measure.above, measure.below) else 0.0
    if measure.above is not None:
        return Region(low=measure.above, slack=slack)
    if measure.below is not None:
        return Region(high=measure.below, slack=slack)
    assert isinstance(measure, schema.Gap)
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


def gap(measure: schema.Gap, at: At) -> Iterator[Check]:
    """Variant minus another, in points."""
    own = by_seed(at.rows, measure.column)
    if measure.other == "dense":
        base, runs = by_seed(at.rows, "value_dense"), list(at.rows["dense"])
    else:
        key = "minus" if measure.minus else "control"
        rows = at.suite.rows(measure.other, at.density, key)
        base, runs = by_seed(rows, measure.column), list(rows["run"])
    values = {s: 100 * (own[s] - base[s]) for s in shared("column", own, base)}
    resolution = 100 * at.suite.measure.resolution(float(at.rows["test_samples"].iloc[0]))
    region = bounds(measure, NEGLIGIBLE)
    number = by_seeds(values, region, "points", resolution)
    yield at.check(number, "points", region, other=measure.other, runs=runs)


def value(measure: schema.Value, at: At) -> Iterator[Check]:
    """A ratio to the dense net."""
    region = bounds(measure)
    own = by_seed(at.rows, measure.column)
    values = {seed: own[seed] for seed in shared("column", own, own)}
    yield at.check(by_seeds(values, region, "times"), "times", region, label=spoken(measure.column))


def spoken(column: str) -> str:
    """The name of a column in a text."""
    return column.replace("_", " ")


def cost(measure: schema.Cost, at: At) -> Iterator[Check]:
    """What was spent over what another variant spent."""
    rows = at.suite.rows(measure.over, 1.0 if measure.over == "dense" else at.density, "over")
    region, table = bounds(measure), at.suite.runs.set_index("run")
    spent = table[list(measure.columns)].astype("float64").sum(axis=1)
    spent = spent / table["epochs"] if measure.per == "epoch" else spent
    sides = [side.assign(spent=spent[side["run"]].to_numpy()) for side in (at.rows, rows)]
    own, base = (by_seed(side, "spent") for side in sides)
    ratios = {seed: own[seed] / base[seed] for seed in shared("over", own, base)}
    number = by_seeds(ratios, region, "times")
    yield at.check(number, "times", region, other=measure.over, runs=rows["run"])


def event(measure: schema.Event, at: At) -> Iterator[Check]:
    """A number per run out of its own lines in the history."""
    columns = [measure.column, *([measure.per] if measure.per else [])]
    lines = at.suite.lines(measure.event, columns, at.seeds)
    reduced = lines.groupby("run")[columns].agg(measure.reduce)
    values = reduced[measure.column] / (reduced[measure.per] if measure.per else 1)
    values = 1 / values if measure.inverse else values
    region = bounds(measure)
    own = {seed: float(values[run]) for run, seed in at.seeds.items()}
    number = by_seeds(own, region, measure.unit)
    yield at.check(number, measure.unit, region, label=spoken(measure.column))


def shape(measure: schema.Shape, at: At) -> Iterator[Check]:
    """How much a column falls and rises, phase by phase."""
    lines = at.suite.lines(measure.event, [measure.column], at.seeds)
    lines = lines[lines["layer"] == measure.layer]
    table = lines.pivot_table(index="round", columns="run", values=measure.column).dropna()
    if set(table) != set(at.seeds):
        raise ClaimError(f"layer: not every run of {measure.variant} logged {measure.layer!r}")
    curves = {seed: table[run].to_numpy() for run, seed in at.seeds.items()}
    region = Region(low=0.0)
    for number, values in enumerate(changes(curves, measure.phases)):
        phase = measure.phases[number]
        label = f"{phase} again" if phase in measure.phases[:number] else phase
        yield at.check(by_seeds(values, region, "index"), "index", region, label=label)


def correlation(measure: schema.Correlation, at: At) -> Iterator[Check]:
    """Of two columns of an event, per run."""
    lines = at.suite.lines(measure.event, measure.columns, at.seeds)
    how = {"pearson": pearsonr, "spearman": spearmanr}[measure.statistic]
    values = {
        at.seeds[str(run)]: float(how(*(own[c].to_numpy(dtype=float) for c in measure.columns))[0])
        for run, own in lines.groupby("run")
    }
    region = bounds(measure)
    number = by_seeds(values, region, "correlation")
    yield at.check(number, "correlation", region, label=measure.statistic)


def exact(measure: schema.Exact, at: At) -> Iterator[Check]:
    """How many layers of these nets satisfy the rule."""
    layers = at.suite.layers.merge(at.rows[["run", "point"]], on=["run", "point"])
    if missing := sorted(set(at.seeds) - set(layers["run"])):
        raise ClaimError(f"densities: no layers are stored of {', '.join(missing)}")
    if measure.rule == "no_empty_layer":
        holds = layers["nonzeros"] > 0
    else:
        outputs = layers["shape"].str.split("x").str[0].astype(int)
        holds = layers["nonzeros"] % outputs == 0
    number = by_count(int(holds.sum()), len(holds))
    yield at.check(number, "share", Region(1, 1), label="layers")


def speedup(measure: schema.Speedup, at: At) -> Iterator[Check]:
    """The measured speed-up, or what it is of the theoretical one."""
    first, latency = at.rows.iloc[0], at.suite.latency
    here = latency[(latency["dataset"] == first["dataset"]) & (latency["arch"] == first["arch"])]
    chosen = speed.setting(here)
    if chosen is None:
        raise ClaimError(f"suite: nothing was timed in {measure.suite}")
    chosen = chosen._replace(batch=measure.batch or chosen.batch)
    found = speed.measured(at.rows, here, chosen)
    if found["latency_reason"]:
        raise ClaimError(f"variant: {measure.variant} was not timed: {found['latency_reason']}")
    ratio = at.rows["theoretical_speedup"].mean() if measure.of == "theory" else 1.0
    names = ("measured_speedup", "speedup_low", "speedup_high")
    mean, low, high = (found[name] / ratio for name in names)
    timed = at.rows[at.rows["run"].isin(speed.within(here, chosen)["run"])]
    region = bounds(measure)
    number = by_interval(mean, low, high, len(timed), region, "times")
    label = f"batch {chosen.batch}"
    yield replace(at, rows=timed).check(number, "times", region, label=label)


KINDS: dict[type[schema.Measurement], Callable[[Any, At], Iterator[Check]]] = {
    schema.Gap: gap,
    schema.Value: value,
    schema.Cost: cost,
    schema.Event: event,
    schema.Shape: shape,
    schema.Correlation: correlation,
    schema.Exact: exact,
    schema.Speedup: speedup,
}
