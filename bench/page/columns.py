"""The columns of the page's table: what each is called, its unit, its definition, its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.tables.measures import Measure

if TYPE_CHECKING:
    import pandas as pd

FILTERS = {
    "suite": "suite",
    "dataset": "data set",
    "arch": "architecture",
    "tier": "budget",
    "family": "family",
    "pattern": "pattern of zeros",
    "target_density": "density",
    "setting": "timed on",
}
"""What rows are chosen by, and what the choice is called."""


@dataclass(frozen=True)
class Column:
    """A column; `form` names the function of `format.js` that writes its cells."""

    key: str
    label: str
    unit: str
    about: str
    form: str = "digits"


COLUMNS = (
    Column("variant", "variant", "", "The method and its parameters that are not the default.",
           "variant"),
    Column("target_density", "density", "asked", "Requested share of the prunable weights kept; "
           "1 is the dense net.", "density"),
    Column("value", "{measure}", "% ± half (n)", "{about} Half: of the 95 % Student-t interval "
           "over n seeds; one seed has none. Bold: in the confidence set for the best method of "
           "its density. ~ read off between two points of a curve.", "score"),
    Column("group", "ties", "group", "Tie group among the methods at this density: a is the best "
           "and all that no other beats at 5 % (paired by seed, Bonferroni over the rivals). The "
           "dense net, copies of a method's densities or shape, and single seeds do not compete.",
           "text"),
    Column("delta_dense", "Δ dense", "points ± half", "Difference to the dense net, paired by "
           "seed, with half of its 95 % interval.", "points"),
    Column("pattern", "pattern", "of zeros", "What is removed together: single weights, k of n "
           "inputs, columns, kernels, channels, factors.", "text"),
    Column("density", "actual", "density", "Measured: non-zero over all prunable weights of the "
           "dense net, mean over the seeds.", "density"),
    Column("bits", "size", "KiB", "On disk, per tensor the smallest of dense, CSR and bitmap.",
           "kib"),
    Column("compression", "compression", "times smaller", "Size of the dense net over this one."),
    Column("theoretical_speedup", "theoretical", "times faster", "Multiply-adds of the dense net "
           "over those with weights that are not zero."),
    Column("measured_speedup", "measured", "times faster [95 %]", "Fastest path against the "
           "fastest way to run the dense net in the same setting, with the interval over "
           "repetitions; of the seed in the middle where several were timed.", "speedup"),
    Column("latency_ms", "time", "ms per batch", "Median of the fastest path. Times of different "
           "moments do not compare; speed-ups are paired with the dense net of the moment."),
    Column("latency_path", "path", "", "The execution path that was fastest.", "text"),
    Column("efficiency", "efficiency", "measured / theoretical", "Share of the theoretical "
           "speed-up that was measured.", "two"),
    Column("energy_mj", "energy", "mJ per sample", "Of the fastest path."),
    Column("bop_reduction", "BOPs", "times fewer", "Bit operations (multiply-adds times the bits "
           "of both factors) of the dense net over those of this one."),
    Column("epochs", "epochs", "beyond the start", "Training up to this point, mean over seeds."),
    Column("seconds", "cost", "s per run", "Wall time of the whole run without the shared dense "
           "start, mean over seeds; one run of an iterative method serves all its densities."),
    Column("status", "status", "", "Seeds that failed, or whose curve does not reach this density, "
           "and why; they are in no mean.", "status"),
    Column("family", "family", "", "Of the method.", "text"),
)  # fmt: skip
"""In the order of the table; the verdicts on controls follow the difference to the dense net."""


RIVALS = {
    "magnitude": "magnitude masks with the method's own layer densities",
    "random": "random masks with the method's own layer densities",
    "scratch": "the net that it ends with, trained from untrained weights",
    "smaller_dense": "a narrower dense net of its density, trained as long",
}
"""What the controls are, in words; of another the name has to do."""


def verdict(control: str) -> Column:
    """The column that says how a method stands to one kind of control."""
    rival = RIVALS.get(control, f"{control} at its density")
    return Column(
        f"{control}_verdict", f"vs {control}", "points",
        f"Against {rival}, paired by seed: better, worse, tie (not told apart at 5 %, Holm) or "
        "untested (fewer than two pairs), and the difference.",
        "verdict",
    )  # fmt: skip


def columns(rows: pd.DataFrame, controls: Sequence[str], shown: Sequence[Measure]) -> list[Column]:
    """Those that any row fills; bit operations where they are not just multiply-adds again."""
    names = {"measure": " or ".join(m.short for m in shown), "about": " ".join(map(meaning, shown))}
    found = []
    for column in COLUMNS:
        texts = {key: getattr(column, key).format(**names) for key in ("label", "about")}
        found.append(replace(column, **texts))
        if column.key == "delta_dense":
            found += [verdict(control) for control in controls]
    if rows["bop_reduction"].equals(rows["theoretical_speedup"]):
        found = [column for column in found if column.key != "bop_reduction"]
    return [column for column in found if column.key in rows and rows[column.key].notna().any()]


def meaning(measure: Measure) -> str:
    """What the measure is, as a sentence."""
    return f"{measure.note.rstrip(',')}, by the {measure.samples} of the data set."
