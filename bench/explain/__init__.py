"""Where a cell of a table comes from: its runs, their seeds, values, commits and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.explain.rows import ExplainError, Row, label, near, pick, present
from bench.tables import made, speed
from bench.tables.cells import GROUP, finished, operating_point
from bench.tables.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("comparison", "controls", "aggregate", "cost", "failures", "scorecard")
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


@dataclass(frozen=True)
class Suite:
    """The tidy tables of a folder, and the tables `comparison` and `controls` made of them."""

    runs: pd.DataFrame
    points: pd.DataFrame
    latency: pd.DataFrame
    compared: pd.DataFrame
    against: pd.DataFrame


@dataclass(frozen=True)
class Part:
    """Runs that a cell was made of, and at which density; None where each has one value."""

    heading: str
    runs: list[str]
    target: float | None = None


def explain(folder: Path, table: str, row: str, column: str) -> str:
    """The story of one cell, as text.

    Args:
        folder: a suite's folder, published or not; for `scorecard` that of the scorecard.
        table: one of `TABLES`.
        row: `<variant>@<density>` (`dpf@0.1`), or `<variant>` where that is unique; with
            `<data set>/<architecture>/` before it or `:<control>` behind it where several fit.
            Of the scorecard the id of a claim.
        column: a column of the table's CSV, such as `top1`.

    Raises:
        ExplainError: no such table, row or column, or several rows.
    """
    if table not in TABLES:
        raise ExplainError(f"no table {table!r} to explain; there are {', '.join(TABLES)}")
    if table == "scorecard":
        return claim(folder, row, column)
    frames = {name: frame for name, (frame, _) in made(folder / "tables").items()}
    chosen = pick(frames[table], row, table)
    if column not in chosen:
        raise ExplainError(f"{table} has no column {column!r}{near(column, list(chosen))}")
    tidied = {name: tidy.read(folder / "tables", name) for name in ("runs", "points", "latency")}
    suite = Suite(**tidied, compared=frames["comparison"], against=frames["controls"])
    lines = [f"{table}, {label(chosen)}: {column} = {chosen[column]}"]
    if table == "controls":
        lines += ["", "pairs, the method's value and its control's:", *pairs(chosen, suite)]
    parts = everywhere(chosen, suite) if table == "aggregate" else behind(chosen, suite)
    if table == "comparison" and column in ALSO:
        parts += ALSO[column](chosen, suite)
    source = basis(table, column)
    for part in parts:
        lines += ["", f"{part.heading}:"]
        lines += [told(r, suite.runs, value(r, source, part.target, suite)) for r in part.runs]
    if column in SPEED:
        lines += ["", "measured:", *measurements(chosen, suite.latency)]
    return "\n".join(lines)


def behind(row: Row, suite: Suite) -> list[Part]:
    """The runs that a row names, under what it calls them; else all of its variant."""
    target = row.get("target_density")
    named = [key for key in ("runs", "control_runs", "run") if key in row]
    if named:
        return [Part(key, str(row[key]).split(), target) for key in named]
    return [Part("runs", list(like(row, suite.runs, *GROUP, "variant")["run"]))]


def everywhere(row: Row, suite: Suite) -> list[Part]:
    """The runs of a variant in each task and at each density."""
    mine = like(row, suite.compared, "tier", "variant").to_dict("records")
    return [Part(label(one), one["runs"].split(), one["target_density"]) for one in mine]


def like(row: Row, frame: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """The part of the frame that has the row's values in these columns."""
    return frame[(frame[list(keys)] == [row[key] for key in keys]).all(axis=1)]


def dense(row: Row, suite: Suite) -> list[Part]:
    """The dense runs that a row's runs are compared to."""
    points = suite.points
    mine = points[points["run"].isin(row["runs"].split())]["dense"].dropna()
    return [Part("dense", sorted(set(mine)), 1.0)] if len(mine) else []


def controls(row: Row, suite: Suite) -> list[Part]:
    """The runs that a row was compared to as controls."""
    mine = like(row, suite.against, *GROUP, "variant", "target_density").to_dict("records")
    return [
        Part(f"control {one['control']}", one["control_runs"].split(), one["target_density"])
        for one in mine
    ]


def rivals(row: Row, suite: Suite) -> list[Part]:
    """The leaders at a row's density, if it competes: the other rows of group a."""
    there = like(row, suite.compared, *GROUP, "target_density")
    others = there[there["best"] & (there["variant"] != row["variant"])].to_dict("records")
    return [
        Part(f"rival {one['variant']}, in group a", one["runs"].split(), one["target_density"])
        for one in others
        if present(row["group"])
    ]


ALSO: dict[str, Callable[[Row, Suite], list[Part]]] = {
    "delta_dense": dense, "delta_dense_half": dense, "delta_dense_p": dense, "controls": controls,
    "group": rivals, "best": rivals, "seeds_needed": rivals,
}  # fmt: skip
"""The further runs that a column of `comparison` was made of."""


def basis(table: str, column: str) -> tuple[str, str] | None:
    """The tidy table and its column that hold what a run adds to a cell; None if it adds none."""
    if table == "failures":
        return None
    stem, _, end = column.rpartition("_")
    measures = {m.column for m in MEASURES.values()}
    scores = table in ("controls", "aggregate") or column in ALSO
    if table == "cost":
        return "runs", column.removesuffix("_sum")
    if scores or column in measures or (stem in measures and end in ("low", "high", "half")):
        return "points", "value"
    return "points", "value_before" if stem in measures and end == "before" else column


def value(run: str, source: tuple[str, str] | None, target: float | None, suite: Suite) -> str:
    """What this run has there at that density: ` = 0.9158`, `~` where it is read off a curve."""
    if source is None:
        return ""
    table, column = source
    if table == "runs":
        mine = suite.runs.set_index("run").loc[run]
        return f" = {mine[column]}" if column in mine and present(mine[column]) else ""
    point = at(run, target, suite)
    if point is None or column not in point:
        return ""
    return f" {'~' if point['interpolated'] else '='} {point[column]}"


def at(run: str, target: float | None, suite: Suite) -> pd.Series | None:
    """The run's operating point at that density; its last one without, None if it has neither."""
    done = finished(suite.points[suite.points["run"] == run])
    if not len(done):
        return None
    if isinstance(done.iloc[0]["densities"], str) and present(target):
        return operating_point(done, float(target or 0))
    return done[done["final"]].iloc[0]


def pairs(row: Row, suite: Suite) -> Iterator[str]:
    """Each run of a row of `controls` with the one that copies it."""
    for own, control in zip(row["runs"].split(), row["control_runs"].split(), strict=True):
        one, other = (at(run, row["target_density"], suite) for run in (own, control))
        if one is not None and other is not None:
            a, b = float(one["value"]), float(other["value"])
            yield f"  seed {one['seed']}: {a:.6g} - {b:.6g} = {a - b:+.6g}"


def claim(folder: Path, name: str, column: str) -> str:
    """The checks of a claim on the scorecard, and their runs in the suites beside its folder."""
    import pandas as pd

    frame = pd.read_csv(folder / "tables" / "scorecard.csv")
    if column not in frame:
        raise ExplainError(f"scorecard has no column {column!r}{near(column, list(frame))}")
    checks = frame[frame["id"] == name]
    if not len(checks):
        raise ExplainError(f"scorecard has no row {name!r}{near(name, list(frame['id'].unique()))}")
    lines = [f"scorecard, {name}: {checks.iloc[0]['claim']}: {checks.iloc[0]['verdict']}"]
    for check in checks.to_dict("records"):
        if not present(check["runs"]):
            return "\n".join([*lines, "", f"no runs: {check['note']}"])
        what = ", ".join(
            str(check[key]) for key in ("check", "place", "suite", "variant") if present(check[key])
        )
        rival = f" against {check['other']}" if present(check["other"]) else ""
        lines += ["", f"{what}{rival}: {column} = {check[column]} ({check['outcome']})"]
        runs = tidy.read(folder.parent / check["suite"] / "tables", "runs")
        lines += [told(run, runs) for run in check["runs"].split()]
    return "\n".join(lines)


def told(run: str, runs: pd.DataFrame, worth: str = "") -> str:
    """One run: what it adds to the cell, how and where it was made."""
    record = runs.set_index("run").loc[run]
    made = ", ".join(f"{key} {record[key]}" for key in MADE if present(record[key]))
    return f"  {run}{worth}\n    {made}"


def measurements(row: Row, latency: pd.DataFrame) -> list[str]:
    """Every timing of the row's runs in the table's setting; paths that refused them included."""
    here = like(row, latency, "dataset", "arch")
    chosen = speed.setting(here)
    mine = speed.within(here, chosen) if chosen else here
    mine = mine[mine["run"].isin(str(row["runs"]).split())]
    return [
        "  " + ", ".join(f"{key} {one[key]}" for key in ("run", *TIMED) if present(one[key]))
        for one in mine.to_dict("records")
    ] or ["  none"]
