"""Measured latency of a variant's point: the best execution path, one setting for all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Setting(NamedTuple):
    """What a speed-up depends on beside the model; rows are comparable only within one setting."""

    device_name: str
    dtype: str
    batch: int
    threads: int | None

    def __str__(self) -> str:
        """As in a footnote: `Some CPU, float32, batch 32, 2 threads`."""
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.device_name}, {self.dtype}, batch {self.batch}{threads}"


def setting(latency: pd.DataFrame) -> Setting | None:
    """The setting that covers most runs; among equals a GPU's, then the largest batch.

    None where nothing was measured.
    """
    timed = latency[latency["status"] == "ok"]
    if not len(timed):
        return None
    keys = ["device_name", "dtype", "batch", "threads"]
    found = timed.groupby(["device", *keys], dropna=False)["run"].nunique().reset_index()
    best = max(
        found.to_dict("records"),
        key=lambda row: (
            row["run"],
            str(row["device"]).startswith("cuda"),
            row["batch"],
            str(row["dtype"]),
        ),
    )
    threads = best["threads"]
    return Setting(
        best["device_name"],
        best["dtype"],
        int(best["batch"]),
        None if threads != threads else int(threads),
    )


def within(latency: pd.DataFrame, chosen: Setting) -> pd.DataFrame:
    """The rows of `latency` that were measured under this setting, without the controls."""
    same = (latency["device_name"] == chosen.device_name) & (latency["dtype"] == chosen.dtype)
    same &= latency["batch"] == chosen.batch
    threads = latency["threads"]
    same &= threads.isna() if chosen.threads is None else (threads == chosen.threads).fillna(False)
    return latency[same & ~latency["role"].eq("control").fillna(False)]


EMPTY = dict.fromkeys((
    "measured_speedup", "speedup_low", "speedup_high", "latency_ms", "latency_path",
    "latency_setting", "efficiency", "other_paths", "energy_mj",
))  # fmt: skip


def measured(cell: pd.DataFrame, latency: pd.DataFrame, chosen: Setting | None) -> dict[str, Any]:
    """Speed columns of one table row, whose seeds are the rows of `cell`.

    The path is the one with the lowest median time; where several seeds were measured, theirs with
    the middle speed-up stands for all. Without a measurement the columns are empty and
    `latency_reason` says why.
    """
    if cell["interpolated"].any():
        return EMPTY | {"latency_reason": "interpolated: no stored model at this density"}
    if chosen is None:
        return EMPTY | {"latency_reason": "nothing measured for this data set and architecture"}
    rows = within(latency, chosen).merge(cell[["run", "point"]], on=["run", "point"])
    timed = rows[(rows["status"] == "ok") & rows["speedup"].notna()]
    if not len(timed):
        reasons = sorted(
            {f"{path}: {reason}" for path, reason in zip(rows["path"], rows["reason"], strict=True)}
        )
        return EMPTY | {
            "latency_reason": "; ".join(reasons) or "this variant's models were not measured"
        }
    fastest = timed.loc[timed.groupby("run")["median_ms"].idxmin()].sort_values(
        "speedup", kind="stable"
    )
    row = fastest.iloc[(len(fastest) - 1) // 2]
    theoretical = cell["theoretical_speedup"].mean()
    return {
        "measured_speedup": row["speedup"],
        "speedup_low": row["speedup_low"],
        "speedup_high": row["speedup_high"],
        "latency_ms": row["median_ms"],
        "latency_path": f"{row['path']} ({row['mode']}, {row['layout']})",
        "latency_setting": str(chosen),
        "efficiency": row["speedup"] / theoretical,
        "other_paths": others(timed[timed["run"] == row["run"]], row["path"]),
        "energy_mj": row["energy_mj"],
        "latency_reason": None,
    }


def others(timed: pd.DataFrame, fastest: str) -> str | None:
    """The speed-ups of one run's other paths, best first: `csr 1.50, onednn 0.87`."""
    rest = timed[timed["path"] != fastest].sort_values("speedup", ascending=False, kind="stable")
    best = rest.drop_duplicates("path")
    return (
        ", ".join(
            f"{path} {gain:.2f}" for path, gain in zip(best["path"], best["speedup"], strict=True)
        )
        or None
    )
