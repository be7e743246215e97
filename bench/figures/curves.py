"""Training histories: did the runs converge, and on what?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import style
from bench.figures.trade import CONTROLS
from bench.tables import measures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "curves"
LABELS = (
    "run", "dataset", "arch", "tier", "variant", "method", "like", "target_density", "task",
)  # fmt: skip


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `curves.{pdf,png}`: validation accuracy or error by epoch, mean over the seeds.

    It is the training accuracy where no validation was taken. Of each variant the sparsest density
    is shown, where training matters most; a run that yields a curve is shown with all its rounds.
    One panel per (dataset, arch, tier).
    """
    runs, history = tidy.read(tables, "runs"), tidy.read(tables, "history")
    lines = training(runs, history)
    groups = list(lines.groupby(["dataset", "arch", "tier"], sort=True))
    if not groups:
        return style.message("No run left a training history.", out, NAME)
    methods = lines[(lines["method"] != "dense") & lines["like"].isna()]
    looks = style.looks(sorted(set(methods["variant"])))
    with style.style():
        made, axes = style.panels(len(groups), [*looks, "dense", CONTROLS])
        for one, (key, part) in zip(axes, groups, strict=True):
            panel(one, part, looks)
            least = part.loc[part["method"] != "dense", "target_density"].min()
            density = f", asked for {100 * least:.3g} %" if least == least else ""
            one.set_title(f"{key[0]}, {key[1]}, {key[2]} tier{density}", loc="left")
        style.legend(made, axes)
        return style.save(made, out, NAME)


def training(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The epochs to show, with the labels of their run and the accuracy in `value`."""
    lines = history[(history["event"] == "epoch") & history["epoch"].notna()].merge(
        runs[[c for c in LABELS if c in runs]],
        on="run",
    )
    lines = lines.assign(value=lines["validation"].fillna(lines["accuracy"]))
    # a rewinding method trains the dense net's first steps again, which says nothing of the method
    replay = (lines["phase"] == "pretrain") & (lines["method"] != "dense")
    lines = lines[lines["value"].notna() & ~replay]
    sparsest = lines.groupby(["dataset", "arch", "tier", "variant"])["target_density"].transform(
        "min"
    )
    return lines[(lines["method"] == "dense") | (lines["target_density"] == sparsest)]


def panel(axes: Axes, part: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """Mean curves of one (dataset, arch, tier); controls grey, the dense net dashed."""
    shown: list[float] = []
    for variant, own in part.groupby("variant", sort=True):
        curve = own.groupby("epoch")["value"].mean()
        shown += list(curve)
        if own["method"].iloc[0] == "dense":
            axes.plot(
                curve.index, curve, color="black", lw=0.8, ls=(0, (4, 2)), zorder=2, label="dense"
            )
        elif variant in looks:
            look = looks[variant]
            every = max(1, len(curve) // 6)
            mark = {
                "color": look.color,
                "marker": look.marker,
                "linestyle": look.linestyle,
                "markevery": every,
            }
            axes.plot(
                curve.index,
                curve,
                label=variant,
                markeredgecolor="white",
                markeredgewidth=0.4,
                zorder=3,
                **mark,
            )
        else:
            axes.plot(curve.index, curve, color=style.GREY, lw=0.7, zorder=1, label=CONTROLS)
    what = measures.measure(part)
    style.accuracy_axis(axes, shown, 5e-4, error=what.lower)
    axes.set_xlabel("epochs of the run")
    axes.set_ylabel(what.validation)
