"""Tables for people, from the tidy tables alone: those of `NAMES`.

`wave` is there where a task predicts fields. Each is written as CSV (every number), Markdown and
LaTeX (what a paper shows).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.tables import aggregate, comparison, controls, cost, failures, wave, wide
from bench.tables.cells import cells
from bench.tables.measures import tasks
from bench.tables.render import Block, latex, markdown

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("comparison", "aggregate", "controls", "cost", "failures", "wave")


def write(tables_folder: Path, out_folder: Path) -> list[Path]:
    """Write every table into `out_folder` from the tidy tables in `tables_folder`.

    Returns the files. Raises `bench.tidy.TidyError` when a tidy table is missing.
    """
    out_folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (frame, blocks) in made(tables_folder).items():
        texts = {
            "csv": frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
            "md": markdown(blocks),
            "tex": latex(name, blocks),
        }
        for suffix, text in texts.items():
            file = out_folder / f"{name}.{suffix}"
            file.write_text(text, encoding="utf-8")
            written.append(file)
    return written


def made(folder: Path) -> dict[str, tuple[pd.DataFrame, list[Block]]]:
    """The numbers of each table and what is shown of them, in the order of `NAMES`."""
    runs, points, latency = (tidy.read(folder, name) for name in ("runs", "points", "latency"))
    against, costs = controls.rows(points), cost.rows(runs)
    compared = comparison.rows(cells(points), points, latency, controls.standings(against))
    lost = failures.rows(runs, latency)
    found = {
        "comparison": (compared, wide.blocks(compared, points)),
        "aggregate": (aggregate.rows(compared), aggregate.blocks(compared)),
        "controls": (against, controls.blocks(against)),
        "cost": (costs, cost.blocks(costs)),
        "failures": (lost, failures.blocks(lost)),
    }
    if "field" in tasks(runs):
        more = [tidy.read(folder, name) for name in ("history", "rollout", "solver")]
        rolled = wave.rows(points, more[0], more[1], latency, more[2])
        found["wave"] = (rolled, wave.blocks(rolled))
    return found
