"""Where each method leaves its weights: the density of every layer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import tidy
from bench.figures import heat, labels, page, scales
from bench.tables.cells import GROUP, cells

if TYPE_CHECKING:
    import pandas as pd

NAME = "layer_density"
CELL = 0.31
"""Inches that a cell with a number and the name of a layer need."""
REMOVED, UNPRUNED = "×", "all"  # noqa: RUF001


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `layer_density.{pdf,png}`: rows are variants, columns layers in the net's order.

    Variants that keep the small layers come last: the order is that of the layers' mean. A panel
    per requested density, of many four; where panels stand one below the other, the densest and the
    sparsest. Means over the seeds. What was read off between two points has no stored net, and
    stays empty.
    """
    found = shares(tidy.read(tables, "points"), tidy.read(tables, "layers"))
    blocks = []
    for title, part in page.places(found):
        columns = beside(part)
        densities = page.some(sorted(set(part["target_density"])), page.MOST if columns > 1 else 2)
        shown = part[part["target_density"].isin(densities)]
        fill = partial(block, part=shown, columns=min(columns, max(2, len(densities))))
        rows = -(-len(densities) // columns)
        layers = of_net(shown)
        below = 0.3 + (labels.width(layers["short"]) if turned(layers) else 0.1)
        height = rows * (0.25 + below + labels.ROW * max(3, shown["variant"].nunique())) + 0.8
        blocks.append(page.Block(title, height, fill))
    return page.save(blocks, out, NAME, "No finished run of a pruned net to show.")


def beside(part: pd.DataFrame) -> int:
    """How many panels stand beside each other on a page."""
    room = page.WIDTH - labels.width(part["variant"]) - 0.2
    return max(1, int(room / (CELL * part["layer"].nunique() + 0.1)))


def of_net(part: pd.DataFrame) -> pd.DataFrame:
    """The layers in the order of the net, with their `weights` and a `short` name."""
    order = part.groupby("layer")[["number", "weights"]].max().sort_values("number", kind="stable")
    names = order.index.str.removesuffix(".weight").str.removeprefix("stages.")
    return order.assign(short=names)


def turned(layers: pd.DataFrame) -> bool:
    """Whether their names only fit beside each other when they are turned."""
    return bool(layers["short"].str.len().max() > 6)


def shares(points: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """A row per variant, requested density and layer: `density`, the mean over the seeds.

    `weights` are the layer's in the dense net; `number` is its place among those that are left.
    """
    seeds = cells(points)
    seeds = seeds[seeds["block"].eq("method") & seeds["point"].notna()]
    keys = [*GROUP, "variant", "target_density"]
    joined = seeds[[*keys, "run", "point", "seed"]].merge(layers, on=["run", "point"])
    joined = joined.assign(number=joined.groupby(["run", "point", *keys]).cumcount())
    found = joined.groupby([*keys, "layer"], sort=False)[["density", "weights", "number"]]
    return found.mean().reset_index().sort_values([*keys, "number"], kind="stable")


def block(made: Any, part: pd.DataFrame, columns: int) -> None:
    """One place: panels with the same rows and columns."""
    densities = sorted(set(part["target_density"]), reverse=True)
    rows = -(-len(densities) // columns)
    grid = made.subplots(rows, columns, squeeze=False)
    for spare in list(grid.flat)[len(densities) :]:
        spare.remove()
    layers = of_net(part)
    variants = list(part.groupby("variant")["density"].mean().sort_values(kind="stable").index)
    least = float(part.loc[part["density"] > 0, "density"].min())
    for index, (axes, density) in enumerate(zip(grid.flat, densities, strict=False)):
        own = part[part["target_density"] == density].pivot(
            index="variant", columns="layer", values="density"
        )
        values = own.reindex(index=variants, columns=layers.index).to_numpy(dtype=float)
        texts = [[text(value) for value in line] for line in values]
        numbers = CELL * len(layers) * columns <= page.WIDTH
        mesh = heat.cells(axes, values, texts, least, numbers)
        axes.set_title(f"{100 * density:.3g} % kept", loc="left")
        labelled(axes, layers)
        axes.set_yticks(np.arange(len(variants)) + 0.5, variants if index % columns == 0 else [])
    heat.bar(made, mesh, list(grid.flat)[: len(densities)], "weights kept in the layer, %")


def labelled(axes: Any, layers: pd.DataFrame) -> None:
    """Under each column the layer and how many weights it has."""
    counts = [scales.count(float(weights)) for weights in layers["weights"]]
    lines = [f"{name}\n{count}" for name, count in zip(layers["short"], counts, strict=True)]
    axes.set_xticks(np.arange(len(lines)) + 0.5, lines, rotation=90 if turned(layers) else 0)


def text(share: float) -> str:
    """What a cell says, in per cent."""
    if share != share:
        return ""
    if share in (0, 1):
        return UNPRUNED if share else REMOVED
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.3g}"
