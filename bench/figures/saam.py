"""SAAM from the inside: a level for each layer against the same level everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import stats, tidy
from bench.figures import inside, scales, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "saam"
METHODS = ("saam",)
READ = {"top1_before": "pruned", "top1": "fine-tuned"}
"""Accuracies that a panel shows: the method's own result, and what training makes of it."""
DASHES = {"top1_before": (0, (2, 1.2)), "top1": "-"}


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `saam.{pdf,png}`: a row per (dataset, arch, tier) and pattern, a colour per alpha.

    Columns: test accuracy over the density asked for; adaptive minus fixed, paired by seed; the
    share of each layer's weights that stays.
    """
    points, layers = final(*(tidy.read(tables, n) for n in ("runs", "points", "layers")))
    rows = list(points.groupby([*inside.PAIR, "row"], sort=True))
    if not rows:
        return style.message("No run of SAAM at a requested density to show.", out, NAME)
    alphas = sorted(set(points["alpha"]), reverse=True)
    looks = dict(zip(alphas, style.looks([str(i) for i in range(9)]).values(), strict=False))
    with style.style():
        labels = [f"{level(a)}, {read}" for a in alphas for read in READ.values()]
        made, grid = inside.grid(len(rows), 3, labels)
        for axes, (key, part) in zip(grid, rows, strict=True):
            accuracy(axes[0], part, looks)
            difference(axes[1], part, looks)
            shares(axes[2], layers[layers["run"].isin(part["run"])], looks)
            tier = f", {key[2]} tier" if points["tier"].nunique() > 1 else ""
            axes[0].set_title(f"{key[3]}: {key[0]}, {key[1]}{tier}", loc="left")
        style.legend(made, list(grid[:, 0]))
        return style.save(made, out, NAME)


def final(
    runs: pd.DataFrame, points: pd.DataFrame, layers: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last point of every finished run at a requested density, and its layers.

    With `alpha`, the `row` it belongs to, and `step`, which orders the densities.
    """
    own = inside.runs_of("saam", runs)
    names = inside.differing(own["setting"], ("alpha", "density", "pattern", "sampling", "uneven"))
    own = own.assign(
        alpha=[setting.alpha for setting in own["setting"]],
        row=[title(setting, names) for setting in own["setting"]],
    )
    done = points[(points["status"] == "ok") & points["final"] & points["top1"].notna()]
    done = done[done["target_density"].notna()]
    table = own[["run", "alpha", "row"]].merge(done, on="run")
    table["step"] = -table["target_density"]
    labels = table[["run", "point", "alpha", "step"]]
    return table, layers.merge(labels, on=["run", "point"])


def title(setting: Any, names: list[str]) -> str:
    """What a row is called: the pattern, how unstructured weights are drawn, and `names`."""
    drawn = setting.pattern == "unstructured"
    shown = [setting.pattern, *([setting.sampling] if drawn else [])]
    return ", ".join([*shown, *([inside.worded(setting, names)] if names else [])])


def level(alpha: float) -> str:
    """Legend entry of one alpha."""
    return {1.0: "adaptive level (alpha 1)", 0.0: "fixed level (alpha 0)"}.get(
        alpha, f"alpha {alpha:g}"
    )


def accuracy(axes: Axes, part: pd.DataFrame, looks: dict[float, style.Look]) -> None:
    """Means with t intervals; before fine-tuning dashed."""
    seen: list[float] = []
    for alpha, look in looks.items():
        for y, read in READ.items():
            own = part[(part["alpha"] == alpha) & part[y].notna()]
            dashed = look._replace(linestyle=DASHES[y])
            label = f"{level(alpha)}, {read}"
            seen += list(inside.curve(axes, own, "target_density", y, dashed, label))
    inside.accuracy_axis(axes, seen, float(part["test_samples"].max()))
    asked = sorted(set(part["target_density"]))
    scales.density_axis(axes, asked, asked)
    axes.set_ylabel("test top-1, %")


def difference(axes: Axes, part: pd.DataFrame, looks: dict[float, style.Look]) -> None:
    """Every alpha minus alpha 0 at each density: full marks fine-tuned, hollow ones before."""
    asked = sorted(set(part["target_density"]))
    axes.axhline(0, color="black", lw=0.8)
    others = [alpha for alpha in looks if alpha != 0]
    found = [
        (alpha, y, density, pair)
        for alpha in others
        for y in READ
        for density in asked
        if (pair := gap(part[part["target_density"] == density], alpha, y)).n
    ]
    for alpha, y, density, pair in found:
        look, full = looks[alpha], y == "top1"
        x = density * 2 ** (0.08 if full else -0.08)
        face = look.color if full else "white"
        axes.plot([x, x], [100 * pair.low, 100 * pair.high], color=look.color, lw=0.8)
        axes.plot(x, 100 * pair.difference, look.marker, color=look.color, mfc=face, ms=3.5)
    if not found:
        axes.set_yticks([])
        axes.text(0.5, 0.6, "no run with alpha 0\nto compare with", ha="center",
                  transform=axes.transAxes)  # fmt: skip
    scales.density_axis(axes, asked, asked)
    axes.set_ylabel("difference")


def gap(part: pd.DataFrame, alpha: float, y: str) -> stats.Paired:
    """Accuracy `y` at `alpha` minus that at alpha 0 over the seeds that both have."""
    adaptive, fixed = (
        dict(zip(own["seed"], own[y].astype(float), strict=True))
        for own in (part[part["alpha"] == alpha], part[part["alpha"] == 0])
    )
    return stats.paired(adaptive, fixed, resolution=1 / float(part["test_samples"].max()))


def shares(axes: Axes, layers: pd.DataFrame, looks: dict[float, style.Look]) -> None:
    """The share of each layer's weights that stays: a line for each alpha and density."""
    names = list(dict.fromkeys(layers["layer"]))
    for (alpha, _), own in layers.groupby(["alpha", "step"], sort=True):
        mean = own.groupby("layer")["density"].mean().reindex(names).clip(lower=1e-4)
        look = looks[float(alpha)]
        # the fixed level lies broad and pale under the others, which often hardly differ from it
        broad = {"lw": 3, "alpha": 0.35} if alpha == 0 else {"lw": 0.8, "marker": look.marker}
        axes.plot(range(len(names)), mean, color=look.color, ms=2.5, **broad)
    short = [name.removesuffix(".weight") for name in names]
    if len(names) <= 5:
        axes.set_xticks(range(len(names)), short)
    else:
        places = np.unique(np.linspace(0, len(names) - 1, 6).round().astype(int))
        axes.set_xticks(places, [str(place + 1) for place in places])
        axes.set_xlabel("layer")
    inside.kept_axis(axes, "y", layers["density"].clip(lower=1e-4).astype(float))
