"""Accuracy against what it took: seconds, and epochs, of training beyond the dense start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import tidy
from bench.figures import labels, page, scales, style
from bench.figures.trade import DOT, SEED
from bench.tables import measures
from bench.tables.cells import cells
from bench.tables.cost import PHASES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "cost_accuracy"
SPAN = "fastest to slowest seed"
NAMED = 12
"""Most names in a panel: those of the best means."""


class Start(NamedTuple):
    """How methods that begin there are drawn."""

    label: str
    color: str
    marker: str


STARTS = {
    True: Start("from the dense net", style.COLOURS[0], "o"),
    False: Start("from scratch", style.COLOURS[1], "s"),
}
"""Whether a method goes on from the dense net, whose training it does not pay for here."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `cost_accuracy.{pdf,png}`: a panel per requested density, of many four.

    The seconds are the ledger's for scoring, pruning and fine-tuning; those of a curve are its
    whole run's, which serves all densities. A run beside others takes longer: a mark stands at the
    median of its seeds, a bar joins the fastest and the slowest.
    """
    seeds = spending(cells(tidy.read(tables, "points")))
    blocks = []
    for title, part in page.places(seeds):
        densities = page.some(sorted(set(part.loc[part["block"] == "method", "target_density"])))
        rows = -(-len(densities) // 2)
        fill = partial(block, part=part, densities=densities)
        blocks += [page.Block(title, 3.1 * rows + 0.9, fill)] if densities else []
    return page.save(blocks, out, NAME, "No finished run of a pruned net to show.")


def spending(seeds: pd.DataFrame) -> pd.DataFrame:
    """Cells with `spent`, the device-seconds beyond the dense start, and `continued`."""
    own = [f"seconds_{phase}" for phase in PHASES if phase != "pretrain"]
    dense = seeds["block"] == "dense"
    return seeds.assign(
        spent=seeds[own].sum(axis=1) + seeds["seconds_pretrain"].where(dense, 0.0),
        continued=seeds["seconds_pretrain"] > 0,
    )[seeds["block"].isin(["dense", "method"]) & seeds["score"].notna()]


def block(made: Any, part: pd.DataFrame, densities: list[float]) -> None:
    """One place: a panel per density, densest first."""
    rows = -(-len(densities) // 2)
    grid = list(made.subplots(rows, min(2, len(densities)), squeeze=False).flat)
    for spare in grid[len(densities) :]:
        spare.remove()
    dense, methods = part[part["block"] == "dense"], part[part["block"] == "method"]
    named = []
    for axes, density in zip(grid, densities, strict=False):
        own = methods[methods["target_density"] == density]
        named.append((axes, panel(axes, own, dense)))
        axes.set_title(f"{100 * density:.3g} % kept", loc="left")
        axes.set_ylabel(measures.measure(part).axis)
        axes.set_xlabel("training seconds (epochs) beyond the dense start")
    style.legend(made, [axes for axes, _ in named])
    for axes, names in named:  # last: names need the final layout
        labels.around(axes, names, [(name.x, name.y) for name in names])


def panel(axes: Axes, own: pd.DataFrame, dense: pd.DataFrame) -> list[labels.Name]:
    """One density: means and seeds, and what the dense net is and takes.

    Returns the names of the best means, best first.
    """
    floor = 0.5 / max(float(own["test_samples"].max()), 1.0)
    shown = [*scales.fenced(list(own["score"]), floor), *dense["score"]]
    scales.accuracy_axis(axes, shown, floor, error=measures.measure(own).lower, most=9)
    scales.log_axis(axes, [*own["spent"], *dense["spent"]], "")
    axes.invert_xaxis()
    table = means(own)
    for continued, rows in table.groupby("continued"):
        look, seeds = STARTS[bool(continued)], own[own["continued"] == continued]
        axes.plot(seeds["spent"], seeds["score"], ".", color=look.color, label=SEED, **DOT)
        axes.plot(rows["spent"], rows["score"], look.marker, color=look.color, mec="white", mew=0.4,
                  label=look.label, zorder=3)  # fmt: skip
    for row in table.to_dict("records"):
        axes.plot([row["least"], row["most"]], [row["score"]] * 2, color=row["color"], lw=0.6,
                  alpha=0.5, zorder=1, label=SPAN)  # fmt: skip
    reference(axes, dense)
    labels.below(axes, table["score"])
    order = table.sort_values("score", ascending=False).index[:NAMED]
    return [
        labels.Name(named(str(name), row["epochs"]), row["spent"], row["score"], row["color"])
        for name, row in table.loc[order].iterrows()
        if row["score"] >= axes.get_ylim()[0]
    ]


def named(variant: str, epochs: float) -> str:
    """`magnitude (3)`."""
    return labels.wrapped(f"{variant} ({epochs:.2g})", 26)


def means(own: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, cheapest first, with the colour of its start."""
    grouped = own.groupby("variant")
    table = grouped[["epochs", "score"]].mean()
    table["spent"] = grouped["spent"].median()
    table["least"], table["most"] = grouped["spent"].min(), grouped["spent"].max()
    table["continued"] = grouped["continued"].first()
    table["color"] = [STARTS[bool(continued)].color for continued in table["continued"]]
    return table.sort_values(["spent", "score"], ascending=[True, False], kind="stable")


def reference(axes: Axes, dense: pd.DataFrame) -> None:
    """Dashed: the dense net's accuracy, and what its own training takes."""
    if len(dense):
        spent = dense["spent"].mean()
        look: dict[str, Any] = {"color": "black", "lw": 0.7, "ls": (0, (4, 2))}
        label = f"dense net: {spent:.3g} s ({dense['epochs'].mean():.2g})"
        axes.axhline(dense["score"].mean(), zorder=1, label=label, **look)
        axes.axvline(spent, zorder=1, **look)
