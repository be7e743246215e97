"""Tables for people, from the tidy tables alone: `comparison`, `controls`, `cost`, `failures`.

Each is written as CSV (every number), Markdown and LaTeX (what a paper shows).
"""

from __future__ import annotations

from pathlib import Path

from bench import tidy
from bench.tables import comparison, controls, cost, failures, wide
from bench.tables.cells import cells
from bench.tables.render import Block, latex, markdown

NAMES = ("comparison", "controls", "cost", "failures")


def write(tables_folder: Path, out_folder: Path) -> list[Path]:
    """Write every table into `out_folder` from the tidy tables in `tables_folder`.

    Returns the files. Raises `bench.tidy.TidyError` when a tidy table is missing.
    """
    points, latency = tidy.read(tables_folder, "points"), tidy.read(tables_folder, "latency")
    seeds = cells(points)
    frames = {
        "comparison": comparison.rows(seeds, points, latency),
        "controls": controls.rows(points),
        "cost": cost.rows(tidy.read(tables_folder, "runs")),
        "failures": failures.rows(tidy.read(tables_folder, "runs"), latency),
    }
    blocks: dict[str, list[Block]] = {
        "comparison": wide.blocks(frames["comparison"], points),
        "controls": controls.blocks(frames["controls"]),
        "cost": cost.blocks(frames["cost"]),
        "failures": failures.blocks(frames["failures"]),
    }
    out_folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in NAMES:
        texts = {
            "csv": frames[name].to_csv(index=False, float_format="%.6g", lineterminator="\n"),
            "md": markdown(blocks[name]),
            "tex": latex(name, blocks[name]),
        }
        for suffix, text in texts.items():
            file = out_folder / f"{name}.{suffix}"
            file.write_text(text, encoding="utf-8")
            written.append(file)
    return written
