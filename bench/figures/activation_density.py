"""Activation density from the inside: density by epoch, and width by stage, of every layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tidy
from bench.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "activation_density"
METHODS = ("activation_density",)
MOST = 16
"""Layers that the axis names one by one; of more only every n-th has its name."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `activation_density.{pdf,png}`: a row per (dataset, arch, tier) and variant.

    Left the density of every layer by epoch, with a line between stages; right the channels of
    every layer, in the order of the net, a line for each stage. Of the first seed.
    """
    lines = readings(tidy.read(tables, "runs"), tidy.read(tables, "history"))
    rows = list(lines.groupby(["dataset", "arch", "tier", "variant"], sort=True))
    if not rows:
        return style.message("No run measured an activation density.", out, NAME)
    with style.style():
        made = style.figure(2 * style.COLUMN, 2.5 * len(rows))
        grid = made.subplots(len(rows), 2, squeeze=False)
        for axes, (key, part) in zip(grid, rows, strict=True):
            title = f"{key[3]}: " if key[3] != NAME else ""
            axes[0].set_title(f"{title}{key[0]}, {key[1]}, {key[2]} tier", loc="left")
            layers = list(dict.fromkeys(part["layer"]))
            colours = _shades(len(layers), "viridis")
            by_epoch(axes[0], part, layers, colours)
            by_stage(axes[1], part, layers, colours)
        return style.save(made, out, NAME)


def readings(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The lines of event `activation_density` with the labels of their run, of the first seed."""
    own = runs[(runs["method"] == NAME) & runs["like"].isna()]
    labels = ["dataset", "arch", "tier", "variant"]
    found = history[history["event"] == NAME].merge(own[["run", "seed", *labels]], on="run")
    return found[found["seed"] == found.groupby(labels)["seed"].transform("min")]


def by_epoch(axes: Axes, part: pd.DataFrame, layers: list[str], colours: list[Any]) -> None:
    """Density of each layer; the line breaks where a new, narrower net starts."""
    few = len(layers) <= 7
    for layer, colour in zip(layers, colours, strict=True):
        mark = {"color": colour, "lw": 0.9, "marker": "o", "markersize": 1.8}
        for stage, own in part[part["layer"] == layer].groupby("stage", sort=True):
            label = _short(layer) if few and stage == 0 else None
            axes.plot(own["epoch"], 100 * own["density"], label=label, **mark)
    ends = part.groupby("stage")["epoch"].max().sort_index()
    for end in ends.iloc[:-1]:
        axes.axvline(end, color="black", lw=0.7, ls=(0, (4, 2)), zorder=1)
    axes.set_xlabel("epochs of the run (dashed: the net is narrowed)")
    axes.set_ylabel("non-zero activations, %")
    axes.set_xlim(left=0)
    low, high = part["density"].min(), part["density"].max()
    axes.set_ylim(10 * math.floor(10 * low), 10 * math.ceil(10 * high))
    if few:
        axes.legend(loc="best", ncols=2)


def by_stage(axes: Axes, part: pd.DataFrame, layers: list[str], colours: list[Any]) -> None:
    """Channels of each layer on a logarithmic axis; the mark has the layer's colour at the left."""
    place = {layer: i for i, layer in enumerate(layers)}
    stages = part.drop_duplicates(["stage", "layer"])
    greys = _shades(int(stages["stage"].nunique()), "Greys_r", 0.0, 0.6)
    for grey, (stage, own) in zip(greys, stages.groupby("stage", sort=True), strict=True):
        at = [place[layer] for layer in own["layer"]]
        axes.plot(at, own["width"], color=grey, lw=1, label=f"stage {int(stage)}", zorder=2)
        axes.scatter(at, own["width"], c=[colours[i] for i in at], s=10, zorder=3)
    step = math.ceil(len(layers) / MOST)
    named = [(i, _short(layer)) for i, layer in enumerate(layers) if i % step == 0]
    turned: dict[str, Any] = {}
    if len(layers) > 4:
        turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks([i for i, _ in named], [name for _, name in named], **turned)
    axes.set_yscale("log", base=2)
    low, high = stages["width"].min(), stages["width"].max()
    powers = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
    ticks = [2**power for power in powers]
    axes.set_yticks(
        ticks,
        [str(tick) if power % 2 == 0 else "" for power, tick in zip(powers, ticks, strict=True)],
    )
    axes.set_ylabel("channels of the layer")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(greys)))


def _short(layer: str) -> str:
    return layer.partition("@")[0].removesuffix(".weight").removeprefix("stages.")


def _shades(count: int, name: str, low: float = 0.0, high: float = 0.9) -> list[Any]:
    """`count` colours of matplotlib's map `name` between two of its places."""
    import matplotlib

    colours = matplotlib.colormaps[name]
    return [colours(low + (high - low) * i / max(1, count - 1)) for i in range(count)]
