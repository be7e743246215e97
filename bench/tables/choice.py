"""What to deploy: nets that no other beats in both accuracy and time; the fastest good one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.tables.measures import named
from bench.tables.render import Block, Cell, line

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.01
"""What a deployed net may lose against the dense one: a point."""


def front(part: pd.DataFrame) -> pd.DataFrame:
    """The timed rows that no other beats in both mean score and speed-up, fastest first.

    `part`: one data set, architecture and tier of the comparison; dense nets and methods compete.
    """
    what = named(part)
    timed = part[part["block"].isin(["dense", "method"]) & part["latency_ms"].notna()]
    # times of different moments do not compare, speed-ups are paired with the dense net
    timed = timed.sort_values("measured_speedup", ascending=False, kind="stable")
    score = timed[what.column] * (-1 if what.lower else 1)
    better = score > score.cummax().shift(fill_value=float("-inf"))
    return timed[better]


def standing(row: Any, lower: bool) -> str:
    """Whether a net is within the margin of the dense one: `yes`, by its whole interval; `mean`."""
    if row["block"] == "dense":
        return "–"  # noqa: RUF001
    lost, half = row["delta_dense"] * (1 if lower else -1), row["delta_dense_half"]
    if half == half and lost + half <= MARGIN:
        return "yes"
    return "mean" if lost <= MARGIN else "no"


def blocks(place: str, part: pd.DataFrame) -> list[Block]:
    """One block, or none where no net was timed."""
    found, what = front(part), named(part)
    if not len(found):
        return []
    rows: list[tuple[Cell, ...]] = []
    fastest: dict[str, str] = {}
    for row in found.to_dict("records"):
        verdict = standing(row, what.lower)
        fastest.setdefault(verdict, f"{row['variant']} at {row['target_density']:g}")
        mean, half = 100 * row[what.column], 100 * row[f"{what.column}_half"]
        texts = line(
            row["variant"], f"{row['target_density']:g}",
            f"{mean:.2f} ± {half:.2f}" if half == half else f"{mean:.2f}",
            None if row["block"] == "dense" else f"{100 * row['delta_dense']:+.2f}",
            f"{row['latency_ms']:.3g}",
            f"{row['measured_speedup']:.2f} [{row['speedup_low']:.2f}, {row['speedup_high']:.2f}]",
            row["latency_path"],
        )  # fmt: skip
        rows.append((*texts, Cell(verdict, bold=verdict == "yes")))
    header = ("variant", "density", f"{what.short}, %", "Δ dense", "ms", "times faster", "path",
              "within a point")  # fmt: skip
    said = "; ".join(
        f"{fastest[verdict]} ({how})"
        for verdict, how in (("yes", "by its whole interval"), ("mean", "by its mean alone"))
        if verdict in fastest
    )
    notes = (
        "Every net that no other of the table beats in both mean and speed-up, fastest first. "
        "Speed-ups are paired with the dense net of the moment; ms were taken at different ones. "
        "Intervals are those of one process; nets of equal shapes can differ by more.",
        f"Fastest within one point of the dense net: {said or 'none but the dense net itself'}.",
        f"Times: {'; '.join(sorted(set(found['latency_setting'].dropna())))}.",
    )
    title = f"What to deploy: {what.short} against time, {place}"
    return [Block(title, header, (("", tuple(rows)),), notes, wide=True)]
