"""Kinds that read what methods log of their own in `history`: events, curves, correlations."""

from __future__ import annotations

from collections.abc import Iterator

from scipy.stats import pearsonr, spearmanr

from bench.claims.at import At, bounds, spoken
from bench.claims.measurements import Correlation, Event, Shape
from bench.claims.number import Region, by_seeds, not_reached
from bench.claims.schema import ClaimError
from bench.claims.shape import changes, reached
from bench.claims.verdict import Check


def event(measure: Event, at: At) -> Iterator[Check]:
    """A number per run out of its own lines in the history."""
    columns = [measure.column, *([measure.per] if measure.per else [])]
    runs = at.suite.lines(measure.event, columns, at.seeds).groupby("run")
    if measure.reduce == "last but one":
        reduced = runs.nth(-2).set_index("run")[columns]
        if silent := sorted(set(at.seeds) - set(reduced.index)):
            raise ClaimError(f"reduce: {', '.join(silent)} logged {measure.event} only once")
    else:
        reduced = runs[columns].agg(measure.reduce)
    values = reduced[measure.column] / (reduced[measure.per] if measure.per else 1)
    values = 1 / values if measure.inverse else values
    region = bounds(measure)
    own = {seed: float(values[run]) for run, seed in at.seeds.items()}
    number = by_seeds(own, region, measure.unit)
    yield at.check(number, measure.unit, region, label=spoken(measure.column))


def shape(measure: Shape, at: At) -> Iterator[Check]:
    """How much a column falls and rises, phase by phase, as far as the curves go."""
    lines = at.suite.lines(measure.event, [measure.column], at.seeds)
    lines = lines[lines["layer"] == measure.layer]
    table = lines.pivot_table(index="round", columns="run", values=measure.column).dropna()
    if set(table) != set(at.seeds):
        raise ClaimError(f"layer: not every run of {measure.variant} logged {measure.layer!r}")
    curves = {seed: table[run].to_numpy() for run, seed in at.seeds.items()}
    region, seen = Region(low=measure.least), reached(curves, measure.phases, measure.least)
    for number, values in enumerate(changes(curves, measure.phases)):
        phase = measure.phases[number]
        label = f"{phase} again" if phase in measure.phases[:number] else phase
        found = by_seeds(values, region, "index") if number < seen else not_reached(len(values))
        yield at.check(found, "index", region, label=label)


def correlation(measure: Correlation, at: At) -> Iterator[Check]:
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
