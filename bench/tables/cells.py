"""From operating points to table cells: one row per variant, requested density and seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.stats import interpolate
from bench.tables.measures import measured

if TYPE_CHECKING:
    import pandas as pd

GROUP = ["dataset", "arch", "tier"]
LINEAR = (
    "value", "value_before", "score", "top5", "loss", "ece", "worst_class_drop", "epochs",
)  # fmt: skip
RATIOS = (
    "compression", "parameter_ratio", "theoretical_speedup", "bop_reduction", "nonzeros", "bits",
    "macs", "effective_macs", "bops", "weight_bits", "activation_bits",
)  # fmt: skip
"""Interpolated as logarithms: a ratio or a count is close to a power of the density."""
EXACT = 0.02
"""A point of a curve this close (relative) to a requested density stands for it as it is."""


SAME = ("protocol", "dataset_digest", "device")
"""What the seeds of one row have in common: numbers made otherwise are not averaged."""


class TableError(ValueError):
    """Tidy tables that cannot be summed up.

    Two values for one variant, density and seed; or a mean over protocols, data or devices.
    """


def cells(points: pd.DataFrame) -> pd.DataFrame:
    """Finished points as cells: the columns of `measured(points)`, `block` and `interpolated`.

    A run without `densities` fills the cell of its requested density with its last point. A run
    with them (an iterative method, and its controls) is a curve: it fills a cell for each density
    that was asked of it and that it reaches (`operating_point`); `unreached` has the others. Dense
    rows appear in each tier that compares to them, at density 1.
    """
    import pandas as pd

    done = finished(points)
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
    refuse_mixtures(table)
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def refuse_mixtures(table: pd.DataFrame) -> None:
    """Raise `TableError` where rows that are compared differ in one of `SAME`.

    A protocol version stands alone in all tables; data and devices within one data set,
    architecture and tier.
    """
    for column, keys in (("protocol", []), *((column, GROUP) for column in SAME[1:])):
        for place, part in table.groupby(keys) if keys else [((), table)]:
            if len(found := sorted(map(str, part[column].dropna().unique()))) > 1:
                where = f" of {', '.join(map(str, place))}" if place else ""
                raise TableError(
                    f"the runs{where} mix {column}s: {', '.join(found)}; run them again alike, or "
                    "in suites of their own"
                )


def finished(points: pd.DataFrame) -> pd.DataFrame:
    """The points of finished runs, with `block` (dense, method or control) and `interpolated`."""
    done = points[(points["status"] == "ok") & points["point"].notna()].reset_index(drop=True)
    done = measured(done)
    done["block"] = "method"
    done.loc[done["like"].notna(), "block"] = "control"
    done.loc[done["method"] == "dense", "block"] = "dense"
    done["interpolated"] = False
    return done.astype(dict.fromkeys(RATIOS, "float64"))


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


def final_cells(done: pd.DataFrame) -> pd.DataFrame:
    """Last points of the runs that are no curve and were asked for a density."""
    last = done["final"] & done["target_density"].notna() & done["densities"].isna()
    return done[last & (done["block"] != "dense")]


def asked(row: dict[Any, Any] | pd.Series) -> list[float]:
    """The densities that a run was asked for, falling; `row` is one of its rows in `points`.

    They are those of a curve and the one at which it was told to end, as a rule the lowest.
    """
    many = row["densities"].split() if isinstance(row["densities"], str) else []
    one = [] if row["target_density"] != row["target_density"] else [row["target_density"]]
    return sorted({float(target) for target in (*many, *one)}, reverse=True)


def curves(done: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, float, pd.Series | None]]:
    """Each curve of `finished` points with each density asked of it and what it has there."""
    for _, curve in done[done["densities"].notna()].groupby("run", sort=True):
        for target in asked(curve.iloc[0]):
            yield curve, target, operating_point(curve, target)


def curve_cells(done: pd.DataFrame) -> pd.DataFrame:
    """The cells of all curves at the densities that they reach."""
    import pandas as pd

    rows = [
        row.to_dict() | {"target_density": target}
        for _, target, row in curves(done)
        if row is not None
    ]
    return pd.DataFrame(rows, columns=done.columns).astype(done.dtypes.to_dict())


def unreached(points: pd.DataFrame) -> list[dict[Any, Any]]:
    """A row for each finished curve and each density asked of it that lies beyond its ends.

    The columns are those of `finished`, with that density as `target_density`, and `highest` and
    `lowest`: the densities between which the curve runs.
    """
    return [
        curve.iloc[0].to_dict()
        | {
            "target_density": target,
            "highest": float(curve["density"].max()),
            "lowest": float(curve["density"].min()),
        }
        for curve, target, row in curves(finished(points))
        if row is None
    ]


def ends(points: pd.DataFrame) -> pd.DataFrame:
    """Last points of the finished curves that end above the lowest density asked of them.

    The columns are those of `cells`; there is no `target_density`, since the method chose it.
    """
    short = {row["run"] for row in unreached(points) if row["lowest"] > row["target_density"]}
    done = finished(points)
    return done[done["run"].isin(sorted(short)) & done["final"]].assign(target_density=math.nan)


def operating_point(curve: pd.DataFrame, target: float) -> pd.Series | None:
    """What one run's curve has at density `target`.

    The nearest point if it is within `EXACT`, else read off between the two points around it; None
    beyond the ends of the curve.
    """
    gap = (curve["density"] / target - 1).abs()
    return curve.loc[gap.idxmin()] if gap.min() <= EXACT else read_off(curve, target)


def read_off(curve: pd.DataFrame, target: float) -> pd.Series | None:
    """One run's curve at density `target`, linear in log density; None beyond its ends."""
    import pandas as pd

    if interpolate(curve["density"], curve["value"], target) is None:
        return None
    row = curve.iloc[-1].copy()
    for column in LINEAR:
        value = interpolate(curve["density"], curve[column].astype("float64"), target)
        row[column] = math.nan if value is None else value
    for column in RATIOS:
        value = interpolate(curve["density"], curve[column].map(log), target)
        row[column] = math.nan if value is None else math.exp(value)
    row["density"], row["interpolated"], row["final"] = target, True, False
    row["point"], row["digest"] = pd.NA, pd.NA  # no model of that density was stored
    return row


def log(value: float) -> float:
    """Natural logarithm; nan for what has none (a missing ratio, a net without any weight left)."""
    return math.log(value) if value > 0 else math.nan
