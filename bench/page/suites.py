"""One suite as the page needs it, from its tidy tables alone: rows, places, runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench import method, tables, tidy
from bench.tables.cells import GROUP, cells
from bench.tables.comparison import gaps
from bench.tables.measures import MEASURES, measure

if TYPE_CHECKING:
    import pandas as pd

CELL = [*GROUP, "variant", "target_density"]
PAIRED = ("verdict", "difference", "half", "p_holm")
"""What a row says of each of its controls, under `<control>_<name>`."""
NUMBERS = ("comparison.csv", "runs.csv", "points.csv", "latency.csv")
"""Tables that the page leads to, beside those for people."""
LOST = {"failed": "failed", "unreached": "not reached"}


@dataclass(frozen=True)
class Suite:
    """The tables of one folder."""

    name: str
    rows: pd.DataFrame
    """The comparison, with `pattern`, `status`, the verdicts on controls and `seeds`: the runs
    behind a row and their values, none for a run that was lost."""
    ends: pd.DataFrame
    """Methods against controls at the last points of curves that reach no requested density."""
    runs: pd.DataFrame
    places: pd.DataFrame
    """What rows compare within: data set, architecture, budget; measure, device, setting."""


def read(folder: Path, home: Path) -> Suite:
    """The suite in `folder` for a page that lies in `home`."""
    source = folder / "tables"
    runs, points = tidy.read(source, "runs"), tidy.read(source, "points")
    made = tables.made(source)
    compared, against = made["comparison"][0], made["controls"][0]
    name = folder.resolve().name
    rows = joined(one_measure(compared), against)
    rows["seeds"] = behind(points, rows)
    rows["pattern"] = patterns(rows, runs)
    rows["status"] = [status(row) for row in rows.to_dict("records")]
    common: dict[str, Any] = {"suite": name}
    common |= {key: link(folder / key, home) for key in ("tables", "runs")}
    common["files"] = (*(f"{table}.md" for table in made), *NUMBERS)
    return Suite(
        name=name,
        rows=rows.assign(suite=name),
        ends=against[against["target_density"].isna()].assign(suite=name),
        runs=runs.assign(suite=name),
        places=places(compared, runs, points, common),
    )


def link(target: Path, home: Path) -> str | None:
    """The address of a folder beside the page, with a slash at its end; None if it is not there."""
    if not target.is_dir():
        return None
    return quote(Path(os.path.relpath(target.resolve(), home.resolve())).as_posix()) + "/"


def one_measure(compared: pd.DataFrame) -> pd.DataFrame:
    """`compared` with `value`, `value_half`, ...: of the measure that the row's task has."""
    stems = [m.column for m in MEASURES.values() if m.column in compared]
    values = {
        f"value{end}": compared[[f"{stem}{end}" for stem in stems]].bfill(axis=1).iloc[:, 0]
        for end in ("", "_low", "_high", "_half", "_before")
    }
    return compared.assign(**values)


def joined(rows: pd.DataFrame, against: pd.DataFrame) -> pd.DataFrame:
    """The rows, each with what was found against its controls."""
    for control, part in against[against["target_density"].notna()].groupby("control"):
        names = {name: f"{control}_{name}" for name in PAIRED}
        rows = rows.merge(part[[*CELL, *PAIRED]].rename(columns=names), on=CELL, how="left")
    return rows


def behind(points: pd.DataFrame, rows: pd.DataFrame) -> list[list[tuple[str, float | None]]]:
    """For each row its runs with their values, by seed, then the runs that were lost."""
    found: dict[tuple[Any, ...], list[tuple[str, float | None]]] = {}
    for cell in cells(points).to_dict("records"):
        found.setdefault(tuple(cell[k] for k in CELL), []).append((cell["run"], cell["value"]))
    for key, lost in gaps(points).items():
        found.setdefault(key, []).extend((row["run"], None) for row in lost)
    return [found[tuple(row[k] for k in CELL)] for row in rows.to_dict("records")]


def patterns(rows: pd.DataFrame, runs: pd.DataFrame) -> list[str | None]:
    """The pattern of zeros of each row."""
    params = dict(zip(runs["run"], runs["params"], strict=True))
    return [
        method.pattern(row["method"], json.loads(params[row["runs"].split()[0]]))
        for row in rows.to_dict("records")
    ]


def status(row: dict[Any, Any]) -> str:
    """`ok`, or what became of the seeds that a row lacks."""
    if not row["n"]:
        return "failed" if row["failed"] else "not reached"
    lost = [f"{row[name]} {text}" for name, text in LOST.items() if row[name]]
    return ", ".join(lost) or "ok"


def places(
    compared: pd.DataFrame, runs: pd.DataFrame, points: pd.DataFrame, common: dict[str, Any]
) -> pd.DataFrame:
    """A row for each data set, architecture and budget, with what is `common` to all."""
    import pandas as pd

    found = []
    for group, part in compared.groupby(GROUP, sort=True):
        dataset, arch, tier = group
        here = runs[(runs["dataset"] == dataset) & (runs["arch"] == arch)]
        here = here[(here["tier"] == tier) | (here["method"] == "dense")]
        tested = points[points["run"].isin(here["run"])]
        shown = measure(tested)
        settings, samples = part["latency_setting"].dropna(), tested["test_samples"].dropna()
        found.append(
            common
            | dict(zip(GROUP, group, strict=True))
            | {
                "measure": shown.column,
                "lower": shown.lower,
                "samples": int(samples.max()) if len(samples) else 0,
                "setting": None if settings.empty else settings.iloc[0],
                "protocol": ", ".join(texts(here["protocol"])),
                "devices": texts(here["device"]),
                "torch": texts(here["torch"]),
                "commits": texts(here["git_commit"]),
                "count": len(here),
                "failed": int((here["status"] != "ok").sum()),
                "latest": here["started"].max(),
            }
        )
    return pd.DataFrame(found)


def texts(column: pd.Series) -> tuple[str, ...]:
    """The distinct values, sorted."""
    return tuple(sorted(map(str, column.dropna().unique())))
