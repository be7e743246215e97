"""The main table: one row per data set, architecture, tier, variant and requested density."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.tables import speed
from bench.tables.cells import GROUP, asked, unreached
from bench.tables.measures import Measure, measure, spelt
from bench.tables.texts import letter

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *GROUP, "variant", "target_density", "block", "method", "family", "n", "*", "*_low", "*_high",
    "*_half", "group", "best", "seeds_needed", "controls", "top5", "*_before", "delta_dense",
    "delta_dense_half", "delta_dense_p", "interpolated", "density", "bits", "compression",
    "parameter_ratio", "macs", "effective_macs", "theoretical_speedup", "weight_bits",
    "activation_bits", "bops", "bop_reduction", "measured_speedup", "speedup_low", "speedup_high",
    "latency_ms", "latency_path", "latency_setting", "efficiency", "other_paths", "energy_mj",
    "latency_reason", "worst_class_drop", "ece", "epochs", "failed", "unreached", "reason",
    "provenance", "device", "runs",
)  # fmt: skip
"""A star stands for each measure of the suite's tasks: `top1`, `relative_l2`."""
TEXTS = frozenset([
    *GROUP, "variant", "block", "method", "family", "group", "controls", "latency_path",
    "latency_setting", "other_paths", "latency_reason", "reason", "provenance", "device", "runs",
])  # fmt: skip
AVERAGES = (
    "density", "bits", "compression", "parameter_ratio", "macs", "effective_macs",
    "theoretical_speedup", "weight_bits", "activation_bits", "bops", "bop_reduction",
    "worst_class_drop", "ece", "epochs",
)  # fmt: skip
SPENT = ("seconds_pretrain", "seconds_score", "seconds_prune", "seconds_finetune", "seconds")


def rows(
    seeds: pd.DataFrame,
    points: pd.DataFrame,
    latency: pd.DataFrame,
    controls: pd.Series | None = None,
) -> pd.DataFrame:
    """The long table, times last; `seeds` is `cells.cells(points)`.

    `controls`: how each row stands against its controls (`bench.tables.controls.standings`).

    Cells that no seed fills, since all failed or none reaches the density, are rows too.
    """
    missing = gaps(points)
    places = {tuple(row) for row in seeds[GROUP].to_numpy()} | {key[:3] for key in missing}
    table: list[dict[str, Any]] = []
    for group in sorted(places):
        place = dict(zip(GROUP, group, strict=True))
        part = seeds[(seeds[GROUP] == group).all(axis=1)]
        here = latency[
            (latency["dataset"] == place["dataset"]) & (latency["arch"] == place["arch"])
        ]
        chosen = speed.setting(here)
        shown = measure(part)
        for target, column in part.groupby("target_density", sort=True):
            standing = ranks(column, shown)
            for variant, cell in column.groupby("variant", sort=True):
                lost = missing.pop((*group, variant, target), [])
                row = place | {"variant": variant, "target_density": target}
                row |= summary(cell, lost, shown)
                row |= standing.get(variant, NO_RANK) | speed.measured(cell, here, chosen)
                table.append(row | {name: cell[name].mean() for name in SPENT})
    for key, lost in missing.items():
        names = dict(zip((*GROUP, "variant", "target_density"), key, strict=True))
        table.append(names | empty(lost) | NO_RANK)
    if controls is not None:
        keys = (*controls.index.names,)
        for row in table:
            row["controls"] = controls.get(tuple(row[key] for key in keys))
    return ordered(table, spelt(COLUMNS, points))


def ordered(table: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """The rows as a typed frame: dense nets, methods, controls, each from dense to sparse."""
    import pandas as pd

    frame = pd.DataFrame(table, columns=[*columns, *SPENT])
    frame[["best", "interpolated"]] = frame[["best", "interpolated"]].eq(True)
    counts = dict.fromkeys(("n", "failed", "unreached"), "int64")
    flags = dict.fromkeys(("best", "interpolated"), "bool")
    floats = [name for name in frame.columns if not {name} & (TEXTS | {*counts, *flags})]
    frame = frame.astype(dict.fromkeys(floats, "float64") | counts | flags)
    frame["order"] = frame["block"].map({"dense": 0, "method": 1, "control": 2})
    frame = frame.sort_values(
        [*GROUP, "order", "variant", "target_density"],
        ascending=[True] * 5 + [False],
        kind="stable",
    )
    return frame[[*columns, *SPENT]].reset_index(drop=True)


def gaps(points: pd.DataFrame) -> dict[tuple[Any, ...], list[dict[Any, Any]]]:
    """Runs that leave a cell empty, by (dataset, arch, tier, variant, requested density).

    They are failed runs (a curve at each density asked of it) and finished curves that end before.
    """
    found: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for row in points[points["status"] == "failed"].drop_duplicates("run").to_dict("records"):
        for target in [1.0] if row["method"] == "dense" else asked(row):
            key = (*(row[name] for name in GROUP), row["variant"], target)
            found.setdefault(key, []).append(row)
    for row in unreached(points):
        key = (*(row[name] for name in GROUP), row["variant"], row["target_density"])
        found.setdefault(key, []).append(row)
    return found


def summary(cell: pd.DataFrame, lost: list[dict[str, Any]], shown: Measure) -> dict[str, Any]:
    """What the seeds of one variant at one density say. Fractions, not per cent."""
    value, stem = stats.mean(cell["value"]), shown.column
    first = cell.iloc[0]
    own = dict(zip(cell["seed"], cell["value"], strict=True))
    dense = {
        seed: value
        for seed, value in zip(cell["seed"], cell["value_dense"], strict=True)
        if value == value
    }
    delta = stats.paired(own, dense, resolution=shown.resolution(first["test_samples"]))
    is_dense = first["block"] == "dense"
    return {
        "block": first["block"],
        "method": first["method"],
        "family": first["family"],
        "n": value.n,
        stem: value.mean,
        f"{stem}_low": value.low,
        f"{stem}_high": value.high,
        f"{stem}_half": value.half,
        "top5": cell["top5"].mean(),
        f"{stem}_before": cell["value_before"].mean(),
        "delta_dense": math.nan if is_dense else delta.difference,
        "delta_dense_half": math.nan if is_dense else delta.half,
        "delta_dense_p": math.nan if is_dense else delta.p,
        "interpolated": bool(cell["interpolated"].any()),
        **{name: cell[name].mean() for name in AVERAGES},
        **absence(lost),
        "provenance": first["provenance"],
        "device": first["device"],
        "runs": " ".join(cell["run"]),
    }


def empty(lost: list[dict[Any, Any]]) -> dict[str, Any]:
    """The row of a cell that no seed fills."""
    first = lost[0]
    control = "control" if isinstance(first["like"], str) else "method"
    return {
        "block": "dense" if first["method"] == "dense" else control,
        "method": first["method"],
        "family": first["family"],
        "n": 0,
        **absence(lost),
        "provenance": first["provenance"],
        "device": first["device"],
        "runs": " ".join(row["run"] for row in lost),
    }


def absence(lost: list[dict[Any, Any]]) -> dict[str, Any]:
    """How many seeds failed, how many end before this density, and the distinct reasons."""
    broken = [row for row in lost if row["status"] == "failed"]
    short = [row for row in lost if row["status"] != "failed"]
    reasons = sorted({str(row["reason"]) for row in broken})
    # a seed that ends above the density and one that begins below it are two different things
    for side in (True, False):
        same = [row for row in short if (row["lowest"] > row["target_density"]) == side]
        if same:
            high, low = max(row["highest"] for row in same), min(row["lowest"] for row in same)
            reasons.append(span(high, low))
    return {
        "failed": len(broken),
        "unreached": len(short),
        "reason": "; ".join(reasons) or None,
    }


def span(high: float, low: float) -> str:
    """Where curves begin and end, over their seeds."""
    first, last = f"{high:.3g}", f"{low:.3g}"
    return (
        f"its only density is {first}"
        if first == last
        else f"its densities run from {first} to {last}"
    )


NO_RANK: dict[str, Any] = {"group": None, "best": False, "seeds_needed": None}


def ranks(column: pd.DataFrame, shown: Measure) -> dict[str, dict[str, Any]]:
    """Tie group of each method at one density (`a` is the best) and the seeds its gap needs.

    Dense rows and controls do not compete, nor does a variant with a single seed: it cannot be
    compared.
    """
    competing = column[column["block"] == "method"]
    values = {
        str(variant): dict(zip(cell["seed"], cell["score"], strict=True))
        for variant, cell in competing.groupby("variant", sort=True)
        if cell["score"].notna().sum() > 1
    }
    if len(values) < 2:
        return {}
    step = shown.resolution(float(competing["test_samples"].max()))
    groups = stats.tie_groups(values, resolution=step)
    leader = groups[0][0]
    found = {}
    for rank, group in enumerate(groups):
        for variant in group:
            gap = stats.paired(values[leader], values[variant], resolution=step)
            alpha = 0.05 / (len(values) - 1)  # as the groups are corrected
            needed = (
                None
                if variant == leader
                else stats.seeds_needed(gap.difference, gap.sd, alpha=alpha)
            )
            found[variant] = {"group": letter(rank), "best": rank == 0, "seeds_needed": needed}
    return found
