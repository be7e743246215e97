"""The main table: one row per data set, architecture, tier, variant and requested density."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.tables import speed
from bench.tables.cells import GROUP

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tuple(
    [
        "dataset",
        "arch",
        "tier",
        "variant",
        "target_density",
        "block",
        "method",
        "family",
        "n",
        "top1",
        "top1_low",
        "top1_high",
        "top1_half",
        "group",
        "best",
        "seeds_needed",
        "top5",
        "top1_before",
        "delta_dense",
        "delta_dense_half",
        "delta_dense_p",
        "interpolated",
        "density",
        "compression",
        "parameter_ratio",
        "theoretical_speedup",
        "measured_speedup",
        "speedup_low",
        "speedup_high",
        "latency_ms",
        "latency_path",
        "latency_setting",
        "efficiency",
        "latency_reason",
        "worst_class_drop",
        "ece",
        "epochs",
        "failed",
        "reason",
        "provenance",
        "device",
        "runs",
    ]
)
TEXTS = frozenset(
    [
        "dataset",
        "arch",
        "tier",
        "variant",
        "block",
        "method",
        "family",
        "group",
        "latency_path",
        "latency_setting",
        "latency_reason",
        "reason",
        "provenance",
        "device",
        "runs",
    ]
)
SPENT = ("seconds_pretrain", "seconds_score", "seconds_prune", "seconds_finetune", "seconds")


def rows(seeds: pd.DataFrame, points: pd.DataFrame, latency: pd.DataFrame) -> pd.DataFrame:
    """The long table; `seeds` is `cells.cells(points)`.

    Times stand last. Cells whose seeds all failed are rows too.
    """
    import pandas as pd

    table: list[dict[str, Any]] = []
    places = {
        tuple(row)
        for frame in (seeds, points[points["status"] == "failed"])
        for row in frame[GROUP].to_numpy()
    }
    for group in sorted(places):
        place = dict(zip(GROUP, group, strict=True))
        part = seeds[(seeds[GROUP] == group).all(axis=1)]
        here = latency[
            (latency["dataset"] == place["dataset"]) & (latency["arch"] == place["arch"])
        ]
        chosen = speed.setting(here)
        broken = failed(points, place)
        for target, column in part.groupby("target_density", sort=True):
            standing = ranks(column)
            for variant, cell in column.groupby("variant", sort=True):
                lost = broken.pop((variant, target), [])
                row = place | {"variant": variant, "target_density": target} | summary(cell, lost)
                row |= standing.get(variant, NO_RANK) | speed.measured(cell, here, chosen)
                table.append(row | {name: cell[name].mean() for name in SPENT})
        for (variant, target), lost in sorted(broken.items()):
            table.append(
                place | {"variant": variant, "target_density": target} | empty(lost) | NO_RANK
            )
    frame = pd.DataFrame(table, columns=[*COLUMNS, *SPENT])
    frame[["best", "interpolated"]] = frame[["best", "interpolated"]].eq(True)
    counts = {"n": "int64", "failed": "int64", "best": "bool", "interpolated": "bool"}
    floats = {name: "float64" for name in frame.columns if name not in TEXTS and name not in counts}
    frame = frame.astype(floats | counts)
    order = {"dense": 0, "method": 1, "control": 2}
    frame["order"] = frame["block"].map(order)
    frame = frame.sort_values(
        [*GROUP, "order", "variant", "target_density"],
        ascending=[True] * 5 + [False],
        kind="stable",
    )
    return frame[[*COLUMNS, *SPENT]].reset_index(drop=True)


def failed(
    points: pd.DataFrame, place: dict[str, str]
) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Failed runs of one (dataset, arch, tier), by variant and requested density."""
    part = points[points["status"] == "failed"].drop_duplicates("run")
    for key, value in place.items():
        part = part[part[key] == value]
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in part.to_dict("records"):
        target = 1.0 if row["method"] == "dense" else row["target_density"]
        found.setdefault((row["variant"], target), []).append(row)
    return found


def summary(cell: pd.DataFrame, lost: list[dict[str, Any]]) -> dict[str, Any]:
    """What the seeds of one variant at one density say. Fractions, not per cent."""
    top1 = stats.mean(cell["top1"])
    first = cell.iloc[0]
    own = dict(zip(cell["seed"], cell["top1"], strict=True))
    dense = {
        seed: value
        for seed, value in zip(cell["seed"], cell["top1_dense"], strict=True)
        if value == value
    }
    delta = stats.paired(own, dense, resolution=1 / first["test_samples"])
    is_dense = first["block"] == "dense"
    averages = (
        "density",
        "compression",
        "parameter_ratio",
        "theoretical_speedup",
        "worst_class_drop",
        "ece",
        "epochs",
    )
    return {
        "block": first["block"],
        "method": first["method"],
        "family": first["family"],
        "n": top1.n,
        "top1": top1.mean,
        "top1_low": top1.low,
        "top1_high": top1.high,
        "top1_half": top1.half,
        "top5": cell["top5"].mean(),
        "top1_before": cell["top1_before"].mean(),
        "delta_dense": math.nan if is_dense else delta.difference,
        "delta_dense_half": math.nan if is_dense else delta.half,
        "delta_dense_p": math.nan if is_dense else delta.p,
        "interpolated": bool(cell["interpolated"].any()),
        **{name: cell[name].mean() for name in averages},
        "failed": len(lost),
        "reason": reasons(lost),
        "provenance": first["provenance"],
        "device": first["device"],
        "runs": " ".join(cell["run"]),
    }


def empty(lost: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a cell whose every seed failed."""
    first = lost[0]
    block = (
        "dense"
        if first["method"] == "dense"
        else "control"
        if isinstance(first["like"], str)
        else "method"
    )
    return {
        "block": block,
        "method": first["method"],
        "family": first["family"],
        "n": 0,
        "failed": len(lost),
        "reason": reasons(lost),
        "provenance": first["provenance"],
        "device": first["device"],
        "runs": " ".join(row["run"] for row in lost),
    }


def reasons(lost: list[dict[str, Any]]) -> str | None:
    """The distinct reasons of failed runs, in one line."""
    return "; ".join(sorted({str(row["reason"]) for row in lost})) or None


NO_RANK: dict[str, Any] = {"group": None, "best": False, "seeds_needed": None}


def ranks(column: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Tie group of each method at one density (`a` is the best) and the seeds its gap needs.

    Dense rows and controls do not compete, nor does a variant with a single seed: it cannot be
    compared.
    """
    competing = column[column["block"] == "method"]
    values = {
        str(variant): dict(zip(cell["seed"], cell["top1"], strict=True))
        for variant, cell in competing.groupby("variant", sort=True)
        if cell["top1"].notna().sum() > 1
    }
    if len(values) < 2:
        return {}
    step = 1 / float(competing["test_samples"].max())
    groups = stats.tie_groups(values, resolution=step)
    leader = groups[0][0]
    found = {}
    for rank, group in enumerate(groups):
        for variant in group:
            gap = stats.paired(values[leader], values[variant], resolution=step)
            needed = None if variant == leader else stats.seeds_needed(gap.difference, gap.sd)
            found[variant] = {"group": letter(rank), "best": rank == 0, "seeds_needed": needed}
    return found


def letter(rank: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    return letter(rank // 26 - 1) + letter(rank % 26) if rank > 25 else chr(ord("a") + rank)
