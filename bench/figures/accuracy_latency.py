"""Accuracy against measured latency: what is left of the theoretical speed-up on a real machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import style, trade
from bench.tables import speed
from bench.tables.cells import cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "accuracy_latency"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_latency.{pdf,png}`: top-1 over the fastest path's median time.

    A panel has one setting. Latency is measured on one seed; each density's accuracies (all seeds)
    stand at that seed's time. A curve appears where a stored model of it stands for a density.
    """
    timed, settings = with_latency(cells(tidy.read(tables, "points")), tidy.read(tables, "latency"))
    if not len(timed):
        return style.message(
            "No latency was measured: run the latency rule on a machine\nwith nothing else on it.",
            out,
            NAME,
        )
    text = "; ".join(sorted(settings))

    def axis(axes: Axes, values: list[float]) -> None:
        style.log_axis(axes, values, f"median ms per batch, fastest path\n{text}")

    return trade.draw(trade.steps(timed), "latency_ms", axis, out, NAME)


def with_latency(seeds: pd.DataFrame, latency: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    """The cells that have a time, as column `latency_ms`, and the settings of the measurements."""
    import pandas as pd

    parts, settings = [], set()
    for (dataset, arch), part in seeds.groupby(["dataset", "arch"], sort=True):
        here = latency[(latency["dataset"] == dataset) & (latency["arch"] == arch)]
        chosen = speed.setting(here)
        for _, cell in part.groupby(["tier", "variant", "target_density"], sort=True):
            found = speed.measured(cell, here, chosen)
            if found["latency_ms"] is not None:
                parts.append(cell.assign(latency_ms=found["latency_ms"]))
                settings.add(found["latency_setting"])
    return (pd.concat(parts, ignore_index=True) if parts else seeds.iloc[:0]), settings
