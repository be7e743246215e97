"""From operating points to table cells: one row per variant, requested density and seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.stats import interpolate

if TYPE_CHECKING:
    import pandas as pd

GROUP = ["dataset", "arch", "tier"]
LINEAR = (
    "top1",
    "top5",
    "loss",
    "ece",
    "top1_before",
    "worst_class_drop",
    "validation_top1",
    "epochs",
)
RATIOS = (
    "compression",
    "parameter_ratio",
    "theoretical_speedup",
    "nonzeros",
    "bits",
    "macs",
    "effective_macs",
)
"""Interpolated as logarithms: a ratio or a count is close to a power of the density."""
EXACT = 0.02
"""A last point this close (relative) to the requested density stands for it.

Farther ones are interpolated.
"""


class TableError(ValueError):
    """Tidy tables that cannot be summed up: two values for one variant, density and seed."""


def cells(points: pd.DataFrame) -> pd.DataFrame:
    """Finished points as cells: the columns of `points` plus `block` and `interpolated`.

    A run with one point fills the cell of its requested density. A run with several (an iterative
    method in the paper tier) is a curve: it fills every density at which the suite compares others,
    linearly in log density, never beyond its ends. Dense rows appear in each tier that compares to
    them, at density 1.
    """
    import pandas as pd

    done = points[(points["status"] == "ok") & points["point"].notna()].reset_index(drop=True)
    done["block"] = "method"
    done.loc[done["like"].notna(), "block"] = "control"
    done.loc[done["method"] == "dense", "block"] = "dense"
    done["interpolated"] = False
    done = done.astype(dict.fromkeys(RATIOS, "float64"))
    parts = [dense_cells(done), final_cells(done), curve_cells(done)]
    parts = [part for part in parts if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else done
    order = [*GROUP, "variant", "target_density", "seed"]
    doubled = table[table.duplicated(order, keep=False)]
    if len(doubled):
        first = doubled.iloc[0]
        same = doubled[(doubled[order] == first[order]).all(axis=1)]["run"]
        raise TableError(
            f"{', '.join(same)} all fill the cell {tuple(first[order])}; give each its own variant"
        )
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def dense_cells(done: pd.DataFrame) -> pd.DataFrame:
    """Dense runs in every (dataset, arch, tier) that compares to them; two recipes are two rows."""
    import pandas as pd

    dense = done[(done["block"] == "dense") & done["final"]].copy()
    dense["target_density"] = 1.0
    wanted = done.loc[done["block"] != "dense", [*GROUP, "dense"]].drop_duplicates()
    used = wanted.rename(columns={"dense": "run"}).merge(dense.drop(columns=GROUP), on="run")
    table = pd.concat([used, dense[~dense["run"].isin(used["run"])]], ignore_index=True)
    recipes = table.groupby(GROUP)["recipe"].transform("nunique")
    table.loc[recipes > 1, "variant"] = table["variant"] + " " + table["recipe"]
    return table


def is_curve(done: pd.DataFrame) -> pd.Series:
    """Whether a row belongs to a run of the paper tier that yielded several points."""
    several = done.groupby("run")["point"].transform("count") > 1
    return several & (done["tier"] == "paper") & (done["block"] != "dense")


def final_cells(done: pd.DataFrame) -> pd.DataFrame:
    """Last points: of every run that is no curve, and of a curve that ends as asked."""
    last = done[(done["block"] != "dense") & done["final"] & done["target_density"].notna()]
    gap = (last["density"] / last["target_density"] - 1).abs()
    return last[~is_curve(done).loc[last.index] | (gap <= EXACT)]


def curve_cells(done: pd.DataFrame) -> pd.DataFrame:
    """Curves read off at the densities of the others of their (dataset, arch, tier), per seed."""
    import pandas as pd

    curves = done[is_curve(done)]
    finals = final_cells(done)
    rows = []
    for (*group, variant, _), curve in curves.groupby([*GROUP, "variant", "seed"], sort=True):
        same = finals[(finals[GROUP] == group).all(axis=1)]
        have = set(
            same.loc[
                (same["variant"] == variant) & (same["seed"] == curve["seed"].iloc[0]),
                "target_density",
            ]
        )
        for target in sorted(set(same["target_density"]) - have):
            row = read_off(curve, target)
            if row is not None:
                rows.append(row)
    return pd.DataFrame(rows)


def read_off(curve: pd.DataFrame, target: float) -> pd.Series | None:
    """One seed's curve at density `target`; None beyond its ends."""
    if interpolate(curve["density"], curve["top1"], target) is None:
        return None
    row = curve.iloc[-1].copy()
    for column in LINEAR:
        value = interpolate(curve["density"], curve[column].astype("float64"), target)
        row[column] = math.nan if value is None else value
    for column in RATIOS:
        value = interpolate(curve["density"], curve[column].map(log), target)
        row[column] = math.nan if value is None else math.exp(value)
    row["density"], row["target_density"], row["interpolated"], row["final"] = (
        target,
        target,
        True,
        False,
    )
    return row


def log(value: float) -> float:
    """Natural logarithm; nan for what has none (a missing ratio, a net without any weight left)."""
    return math.log(value) if value > 0 else math.nan
