"""Where a cell of a table comes from: its runs, their seeds, values, commits and machines."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tidy
from bench.tables import made, speed
from bench.tables.cells import finished, operating_point

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("comparison", "controls", "cost", "failures")
MADE = ("seed", "status", "git_commit", "device", "torch", "protocol", "started", "dataset_digest")
"""What is told of each run."""
TIMED = (
    "path", "mode", "layout", "device_name", "dtype", "batch", "threads", "n", "median_ms",
    "p5_ms", "p95_ms", "speedup", "speedup_low", "speedup_high", "against", "library", "restarts",
    "status", "reason",
)  # fmt: skip
"""What is told of each measurement of latency."""
SPEED = (
    "measured_speedup", "speedup_low", "speedup_high", "latency_ms", "efficiency", "other_paths",
    "energy_mj", "latency_path",
)  # fmt: skip


class ExplainError(ValueError):
    """A table, row or column that is not there; the message says what is."""


def explain(folder: Path, table: str, row: str, column: str) -> str:
    """The story of one cell, as text.

    Args:
        folder: a suite's folder, published or not.
        table: one of `TABLES`.
        row: `<variant>@<density>` (`dpf@0.1`), or `<variant>` where a table has none; with
            `<data set>/<architecture>/` before it or `:<control>` behind it where several fit.
        column: a column of the table's CSV, such as `top1`.

    Raises:
        ExplainError: no such table, row or column, or several rows.
    """
    if table not in TABLES:
        raise ExplainError(f"no table {table!r} to explain; there are {', '.join(TABLES)}")
    frame = made(folder / "tables")[table][0]
    chosen = pick(frame, row, table)
    if column not in frame:
        raise ExplainError(f"{table} has no column {column!r}{near(column, list(frame))}")
    tidied = {name: tidy.read(folder / "tables", name) for name in ("runs", "points", "latency")}
    lines = [f"{table}, {label(chosen)}: {column} = {chosen[column]}"]
    for heading, runs in behind(chosen, tidied["runs"]).items():
        lines += ["", f"{heading}:", *(told(run, column, chosen, tidied) for run in runs)]
    if column in SPEED:
        lines += ["", "measured:", *measurements(chosen, tidied["latency"])]
    return "\n".join(lines)


def behind(row: dict[str, Any], runs: pd.DataFrame) -> dict[str, list[str]]:
    """The runs that a row names, under what it calls them; else all of its variant."""
    named: dict[str, list[str]] = {
        key: str(row[key]).split() for key in ("runs", "control_runs", "run") if key in row
    }
    if named:
        return named
    keys = [key for key in ("dataset", "arch", "tier", "variant") if key in row]
    mine = runs[(runs[keys] == [row[key] for key in keys]).all(axis=1)]
    return {"runs": list(mine["run"])}


def pick(frame: pd.DataFrame, row: str, table: str) -> dict[str, Any]:
    """The one row that `row` names."""
    names = [label(one) for one in frame.to_dict("records")]
    # a variant's name may hold a slash or a colon, so ends of names are compared, not parts
    fit = [
        i for i, name in enumerate(names)
        if name == row or name.endswith(f"/{row}") or name.startswith(f"{row}:")
        or f"/{row}:" in name
    ]  # fmt: skip
    if len(fit) == 1:
        return dict(frame.iloc[fit[0]])
    if not fit:
        raise ExplainError(f"{table} has no row {row!r}{near(row, [*short(names), *names])}")
    several = ", ".join(names[i] for i in fit[:8])
    raise ExplainError(f"{table} has {len(fit)} rows {row!r}: {several}")


def label(row: dict[Any, Any]) -> str:
    """`<data set>/<architecture>/<variant>@<density>:<control>`, as far as the table has them."""
    name = "/".join(str(row[key]) for key in ("dataset", "arch", "variant"))
    target, seed = row.get("target_density"), row.get("seed")
    name += f"@{target:g}" if target is not None and target == target else ""
    name += f":{row['control']}" if "control" in row else ""
    return name + (f":seed {seed}" if seed is not None and seed == seed else "")


def short(names: list[str]) -> list[str]:
    """The names without data set and architecture."""
    return [name.split("/", 2)[-1] for name in names]


def near(wanted: str, names: list[str]) -> str:
    """A hint at what was meant."""
    close = difflib.get_close_matches(wanted, names, 3)
    return f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""


def told(run: str, column: str, row: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """One run: its value where the column is one of a point's, how and where it was made."""
    record = tables["runs"].set_index("run").loc[run]
    value = own(run, column, row.get("target_density"), tables["points"])
    made = ", ".join(f"{key} {record[key]}" for key in MADE if record[key] == record[key])
    return f"  {run}{value}\n    {made}"


def own(run: str, column: str, target: Any, points: pd.DataFrame) -> str:
    """What this run has in that column at that density: ` = 0.9158`, `~` where it is read off."""
    done = finished(points[points["run"] == run])
    if not len(done) or column not in done:
        return ""
    curve = isinstance(done.iloc[0]["densities"], str) and target == target
    point = operating_point(done, float(target)) if curve else done[done["final"]].iloc[0]
    if point is None:
        return ""
    if not point["interpolated"]:
        return f" = {point[column]}"
    return f" ~ {point['value'] if column in ('top1', 'relative_l2') else point[column]}"


def measurements(row: dict[str, Any], latency: pd.DataFrame) -> list[str]:
    """Every timing of the row's runs in the table's setting; paths that refused them included."""
    here = latency[(latency["dataset"] == row["dataset"]) & (latency["arch"] == row["arch"])]
    chosen = speed.setting(here)
    mine = speed.within(here, chosen) if chosen else here
    mine = mine[mine["run"].isin(str(row["runs"]).split())]
    return [
        "  " + ", ".join(f"{key} {one[key]}" for key in ("run", *TIMED) if present(one[key]))
        for one in mine.to_dict("records")
    ] or ["  none"]


def present(value: Any) -> bool:
    """Whether a cell holds something."""
    return value is not None and value == value and str(value) not in ("", "<NA>")
