"""Training histories: did the runs converge, and on what?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tidy
from bench.figures import labels, page, scales, style
from bench.figures.multiples import OTHERS, PALE, Place, save
from bench.figures.trade import CONTROLS
from bench.tables import measures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "curves"
LABELS = (
    "run", "dataset", "arch", "tier", "variant", "method", "family", "like", "like_variant",
    "target_density", "task",
)  # fmt: skip


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `curves.{pdf,png}`: validation accuracy or error by epoch, mean over the seeds.

    It is the training accuracy where no validation was taken. Of each variant the sparsest density
    is shown, where training matters most; a run that yields a curve is shown with all its rounds.
    Per (dataset, arch, tier) and family.
    """
    lines = training(tidy.read(tables, "runs"), tidy.read(tables, "history"))
    places = []
    for title, part in page.places(lines):
        rows = part.assign(score=part["value"])
        least = part.loc[part["block"] != "dense", "target_density"].min()
        density = f", asked for {100 * least:.3g} %" if least == least else ""
        axis = measures.measure(part).validation
        places.append(Place(f"{title}{density}", rows, axis, part))
    return save(places, panel, "epochs of the run", out, NAME)


def training(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The epochs to show, with the labels of their run and the accuracy in `value`."""
    lines = history[(history["event"] == "epoch") & history["epoch"].notna()].merge(
        runs[[c for c in LABELS if c in runs]],
        on="run",
    )
    lines = lines.assign(value=lines["validation"].fillna(lines["accuracy"]), block="method")
    lines.loc[lines["like"].notna(), "block"] = "control"
    lines.loc[lines["method"] == "dense", "block"] = "dense"
    # a rewinding method trains the dense net's first steps again, which says nothing of the method
    replay = (lines["phase"] == "pretrain") & (lines["block"] != "dense")
    lines = lines[lines["value"].notna() & ~replay]
    sparsest = lines.groupby(["dataset", "arch", "tier", "variant"])["target_density"].transform(
        "min"
    )
    return lines[(lines["block"] == "dense") | (lines["target_density"] == sparsest)]


def panel(axes: Axes, part: pd.DataFrame, variants: tuple[str, ...]) -> list[labels.Name]:
    """Mean curves: these variants in colour, their controls dotted, the dense net dashed."""
    looks, names, shown = style.looks(variants), [], []
    line: dict[str, Any]
    for (block, variant), own in part.groupby(["block", "variant"], sort=True):
        curve = own.groupby("epoch")["value"].mean()
        like = own["like_variant"].iloc[0]
        if block == "dense":
            line = {"color": "black", "lw": 0.8, "ls": (0, (4, 2)), "zorder": 2, "label": "dense"}
        elif variant in looks:
            color, marker, dashes = looks[variant]
            line = {"color": color, "ls": dashes, "marker": marker, "ms": 3.2, "mec": "white",
                    "mew": 0.4, "markevery": max(1, len(curve) // 6), "zorder": 3}  # fmt: skip
            names.append(labels.Name(variant, curve.index[-1], curve.iloc[-1], color))
        elif block == "control" and like in looks:
            line = {"color": looks[like].color, "ls": ":", "lw": 0.7, "label": CONTROLS}
        else:
            line = {"color": PALE, "lw": 0.7, "zorder": 0.5, "label": OTHERS}
        if block != "control" or like in looks:
            axes.plot(curve.index, curve, **line)
            shown += list(curve) if block == "dense" or variant in looks else []
    scales.accuracy_axis(axes, shown, 5e-4, error=measures.measure(part).lower)
    return names
