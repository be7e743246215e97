"""Predicted fields as they are rolled out, and how the error grows: dense, factorised, pruned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import stats, tidy
from bench.figures import style
from bench.tables.cells import finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "wave"
TASKS = ("field",)
LARGEST = 100.0
"""Relative errors are cut here: a prediction that wrong has blown up."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `wave.{pdf,png}`: per (data set, net) some fields above, the errors over steps below.

    The fields are of one test trajectory and the first seed: the truth, then the dense net and the
    best factorised and the best other net at the lowest density. The errors are of all variants at
    the lowest density asked of them, means over the seeds with the seeds' range.
    """
    points = tidy.read(tables, "points")
    if "task" not in points or not points["task"].eq("field").any():
        return style.message("No run of this suite predicts a field.", out, NAME)
    fields, rollout = tidy.read(tables, "fields"), tidy.read(tables, "rollout")
    done = finished(points)
    done = done[done["relative_l2"].notna() & done["final"].eq(True) & (done["block"] != "control")]
    pairs = [(key, part) for key, part in done.groupby(["dataset", "arch"], sort=True)]
    if not pairs:
        return style.message("No finished run predicts a field.", out, NAME)
    with style.style():
        made = style.figure(2 * style.COLUMN, 7 * len(pairs))
        for sub, (key, part) in zip(made.subfigures(len(pairs), 1, squeeze=False).flat, pairs,
                                    strict=True):  # fmt: skip
            upper, lower = sub.subfigures(2, 1, height_ratios=(4.2, 2.6))
            shown = fields[(fields["dataset"] == key[0]) & (fields["arch"] == key[1])]
            images(upper, shown, part)
            upper.suptitle(f"{key[0]}, {key[1]}", x=0.01, ha="left")
            errors(lower, part, rollout)
        return style.save(made, out, NAME)


def images(made: Figure | Any, shown: pd.DataFrame, points: pd.DataFrame) -> None:
    """A row for the truth and for each net, a column for each step; one colour scale for all."""
    steps = sorted(set(shown["step"]))
    truth = shown[shown["what"] == "true"]
    rows = [("finite elements", truth)]
    for (run, point), own in shown[shown["what"] == "predicted"].groupby(["run", "point"]):
        row = points[(points["run"] == run) & (points["point"] == point)].iloc[0]
        rows.append((label(row), own))
    rows[1:] = sorted(rows[1:], key=lambda row: (row[0] != "dense", row[0]))
    largest = max(float(np.abs(field(line)).max()) for line in truth.to_dict("records"))
    axes = made.subplots(len(rows), len(steps), squeeze=False)
    for across, (name, own) in zip(axes, rows, strict=True):
        lines = {line["step"]: line for line in own.to_dict("records")}
        for one, step in zip(across, steps, strict=True):
            one.imshow(
                field(lines[step]), cmap="RdBu_r", vmin=-largest, vmax=largest, origin="lower",
                interpolation="nearest",
            )  # fmt: skip
            one.set_xticks([])
            one.set_yticks([])
        across[0].set_ylabel(name.replace("(", "\n("), rotation=0, ha="right", va="center")
    for one, step in zip(axes[0], steps, strict=True):
        one.set_title(f"step {step}")


def field(line: dict[Any, Any]) -> np.ndarray:
    """The field of a row of the tidy table `fields`: (height, width), row 0 is y = 0."""
    values = np.array(line["values"].split(), dtype=float) / 1000
    return values.reshape(line["height"], line["width"])


def label(row: Any) -> str:
    """`tensor_cnn(...), 10 %`; the dense net has no density."""
    target = row["target_density"]
    return str(row["variant"]) + ("" if target != target else f", {100 * target:.3g} %")


def errors(made: Figure | Any, points: pd.DataFrame, rollout: pd.DataFrame) -> None:
    """The relative error over the steps, on a logarithmic axis, a line for each variant."""
    lowest = points.groupby("variant")["target_density"].transform("min")
    last = points[points["target_density"].isna() | (points["target_density"] == lowest)]
    merged = last.merge(rollout, on=["run", "point"], suffixes=("", "_rolled"))
    looks = style.looks(sorted(set(last["variant"]) - {"dense"}))
    axes = made.subplots()
    for name, own in merged.groupby("variant", sort=True):
        curve(axes, own, looks.get(name))
    axes.set_yscale("log")
    axes.set_xticks([1, *range(5, int(merged["step"].max()) + 1, 5)])
    axes.set_xlabel("steps fed with own predictions")
    axes.set_ylabel("relative L2 error, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def curve(axes: Axes, own: pd.DataFrame, look: style.Look | None) -> None:
    """One variant: the mean over the seeds of each step, and their range; the dense net dashed."""
    rows = []
    for step, cell in own.groupby("step", sort=True):
        values = cell["relative_l2_rolled"].clip(upper=LARGEST)
        rows.append((step, stats.mean(values).mean, values.min(), values.max()))
    steps, means, low, high = np.array(rows, dtype=float).T
    line = (
        {"color": look.color, "marker": look.marker, "linestyle": look.linestyle}
        if look
        else ({"color": "black", "linestyle": (0, (4, 2))})
    )
    axes.plot(
        steps, 100 * means, label=label(own.iloc[0]), markevery=4, markeredgecolor="white",
        markeredgewidth=0.4, **line,
    )  # fmt: skip
    axes.fill_between(steps, 100 * low, 100 * high, color=line["color"], alpha=0.15, lw=0)
