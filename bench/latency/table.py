"""The latency table: its columns, its file, what may be reused, and how restarts are pooled."""

from __future__ import annotations

import csv
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TYPES: dict[str, type] = {
    "dataset": str,
    "arch": str,
    "run": str,
    "point": int,
    "role": str,
    "path": str,
    "mode": str,
    "device": str,
    "device_name": str,
    "dtype": str,
    "layout": str,
    "batch": int,
    "threads": int,
    "n": int,
    "median_ms": float,
    "p5_ms": float,
    "p25_ms": float,
    "p75_ms": float,
    "p95_ms": float,
    "min_ms": float,
    "cold_ms": float,
    "first_ms": float,
    "peak_mb": float,
    "energy_mj": float,
    "speedup": float,
    "speedup_low": float,
    "speedup_high": float,
    "against": str,
    "output_error": float,
    "top1_agreement": float,
    "status": str,
    "reason": str,
    "digest": str,
    "load_before": float,
    "load_after": float,
    "clock_mhz": float,
    "power_w": float,
    "temperature_c": float,
    "throttle": str,
    "protocol": int,
    "torch": str,
    "library": str,
    "settings": str,
    "restarts": int,
}
COLUMNS = tuple(TYPES)
IDENTITY = (
    "digest",
    "path",
    "device",
    "device_name",
    "dtype",
    "batch",
    "threads",
    "protocol",
    "torch",
    "library",
    "settings",
)
"""Rows that agree in these measured the same thing; a run's or point's new name changes nothing."""
CONDITION = ("digest", "device", "device_name", "dtype", "batch", "threads")
MIDDLES = (
    "median_ms", "p5_ms", "p25_ms", "p75_ms", "p95_ms", "cold_ms", "first_ms", "energy_mj",
    "speedup",
)  # fmt: skip
SEVERITY = ("ok", "unsupported", "unsteady", "failed")


def write(path: Path, rows: Iterable[Row]) -> None:
    """`rows` as CSV under exactly `COLUMNS`; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: shown(row[name]) for name in COLUMNS} for row in rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def shown(value: Any) -> Any:
    """A cell's text: six significant digits are far below any timing noise."""
    return f"{value:.6g}" if isinstance(value, float) else value


def read(path: Path) -> list[Row]:
    """The rows of a file that `write` wrote; none if it is absent or has other columns."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            return []
        return [{name: typed(name, row[name]) for name in COLUMNS} for row in reader]


def typed(name: str, text: str) -> Any:
    """A cell's value; an empty cell is none, except for text that may be empty."""
    if text == "":
        return "" if name == "reason" else None
    return TYPES[name](text)


def identity(row: Row) -> tuple[Any, ...]:
    """What a row measured, whatever its run is called."""
    return tuple(row[name] for name in IDENTITY)


def reusable(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Earlier rows by what they measured; only good ones, the others deserve another try."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            found[identity(row)].append(row)
    return dict(found)


SPEEDUP = ("speedup", "speedup_low", "speedup_high", "against")


def pool(restarts: Sequence[Sequence[Row]]) -> list[Row]:
    """One table from those of several processes.

    Times and speed-up are medians over processes, minimum and interval span all of them, counts add
    up, and the worst status with its reason stands. Rows are matched by run, point and `IDENTITY`,
    those of the unpruned net by mode and layout, too. A pruned net's may differ between processes,
    where the choice between two is close: the first one's are shown. Which way to run the unpruned
    net is the fastest may differ as well: the one that is it most often stays the twin.
    """
    if len(restarts) == 1:
        return list(restarts[0])
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in (row for rows in restarts for row in rows):
        candidate = row["role"] == "candidate"
        way = () if candidate else (row["role"] == "control", row["mode"], row["layout"])
        groups[(row["run"], row["point"], *identity(row), *way)].append(row)
    return [pooled(rows) for rows in one_twin(list(groups.values()))]


def one_twin(groups: list[list[Row]]) -> list[list[Row]]:
    """`groups` with one twin per condition: what was it in most processes.

    A twin's speed-up is that of a pair of equals, another way's is against the twin: what a
    process measured in the other role says nothing of it.
    """
    votes: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for place, rows in enumerate(groups):
        cell = tuple(rows[0][name] for name in CONDITION)
        if wins := sum(row["role"] == "twin" for row in rows):
            votes[cell].append((-wins, place))
    twins = {min(found)[1] for found in votes.values()}
    blank = dict.fromkeys(SPEEDUP)
    made = []
    for place, rows in enumerate(groups):
        old = {row["role"] for row in rows}
        role = "twin" if place in twins else "baseline" if old & {"twin", "baseline"} else ""
        made.append(
            [
                row if not role or row["role"] == role else row | blank | {"role": role}
                for row in rows
            ]
        )
    return made


def pooled(rows: list[Row]) -> Row:
    """One row from the same row of several processes."""
    worst = max(rows, key=lambda row: SEVERITY.index(row["status"]))
    first = next((row for row in rows if row["speedup"] is not None), rows[0])
    merged = dict(first) | {"status": worst["status"], "reason": worst["reason"]}
    for name in MIDDLES:
        merged[name] = reduce(statistics.median, rows, name)
    for name in ("min_ms", "speedup_low", "load_before", "top1_agreement"):
        merged[name] = reduce(min, rows, name)
    for name in ("speedup_high", "output_error", "peak_mb", "load_after"):
        merged[name] = reduce(max, rows, name)
    for name in ("n", "restarts"):
        merged[name] = reduce(sum, rows, name)
    return merged


def reduce(function: Any, rows: list[Row], name: str) -> Any:
    """`function` over the known values of a column; none if all are unknown."""
    values = [row[name] for row in rows if row[name] is not None]
    return function(values) if values else None
