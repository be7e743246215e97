"""How each kind of measurement becomes checks: numbers by seed out of published tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bench.claims import measurements
from bench.claims.at import At, bounds, by_seed, shared, spoken
from bench.claims.gaps import gap
from bench.claims.logs import correlation, event, shape
from bench.claims.measurements import Measurement
from bench.claims.number import Region, by_count, by_interval, by_seeds
from bench.claims.schema import ClaimError
from bench.claims.suites import Suite
from bench.claims.verdict import Check
from bench.stats import Seeds
from bench.tables import speed


def checks(measure: Measurement, suite: Suite) -> Iterator[Check]:
    """The checks of one measurement, in its order; `ClaimError` names a key without an answer."""
    densities = measure.densities
    for density in [densities] if isinstance(densities, str) else densities:
        rows = suite.rows(measure.variant, density, "variant")
        yield from KINDS[type(measure)](measure, At(measure, suite, density, rows))


def value(measure: measurements.Value, at: At) -> Iterator[Check]:
    """A ratio to the dense net."""
    channels = measure.column == "channel_bop_reduction"
    own = channel_bops(at) if channels else by_seed(at.rows, measure.column)
    region, label = bounds(measure), spoken(measure.column)
    values = {seed: own[seed] for seed in shared("column", own, own)}
    yield at.check(by_seeds(values, region, "times"), "times", region, label=label)


def channel_bops(at: At) -> Seeds:
    """Bit operations of the dense net over those of the channels that stay.

    As papers on joint pruning and quantisation count them, MACs times the bits of weights and
    inputs, where only removed channels save MACs. The harness's own `bops` counts, of those
    channels, only the weights that are not zero.
    """
    layers = stored(at)
    bill = layers["macs"] * layers["weight_bits"] * layers["activation_bits"]
    bill = bill.groupby(layers["run"]).sum(min_count=1)
    dense = at.rows["bops"].astype("float64") * at.rows["bop_reduction"]
    reduction = dense.to_numpy() / bill[at.rows["run"]].to_numpy(dtype=float)
    return dict(zip(at.rows["seed"], reduction, strict=True))


def cost(measure: measurements.Cost, at: At) -> Iterator[Check]:
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


def exact(measure: measurements.Exact, at: At) -> Iterator[Check]:
    """How many layers of these nets satisfy the rule."""
    layers = stored(at)
    if measure.rule == "no_empty_layer":
        holds = layers["nonzeros"] > 0
    else:
        outputs = layers["shape"].str.split("x").str[0].astype(int)
        holds = layers["nonzeros"] % outputs == 0
    number = by_count(int(holds.sum()), len(holds))
    yield at.check(number, "share", Region(1, 1), label="layers")


def stored(at: At) -> Any:
    """The layers of these points, a frame; `ClaimError` if a run has none."""
    layers = at.suite.layers.merge(at.rows[["run", "point"]], on=["run", "point"])
    if missing := sorted(set(at.seeds) - set(layers["run"])):
        raise ClaimError(f"densities: no layers are stored of {', '.join(missing)}")
    return layers


def speedup(measure: measurements.Speedup, at: At) -> Iterator[Check]:
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


KINDS: dict[type[Measurement], Callable[[Any, At], Iterator[Check]]] = {
    measurements.Gap: gap,
    measurements.Value: value,
    measurements.Cost: cost,
    measurements.Event: event,
    measurements.Shape: shape,
    measurements.Correlation: correlation,
    measurements.Exact: exact,
    measurements.Speedup: speedup,
}
