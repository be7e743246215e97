"""Inside privacy-preserving pruning: the library of kernel patterns, and how near ADMM comes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import inside, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "kernel_library"
METHODS = ("privacy_admm",)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `kernel_library.{pdf,png}`: distance from the set by penalty, and the patterns.

    A row for each (dataset, arch, tier): of each method's first variant its lowest density; the
    library of its first seed, where kernels are pruned by patterns.
    """
    runs, history = (tidy.read(tables, name) for name in ("runs", "history"))
    admm = inside.events(runs, history, "admm", ["rho", "away"])
    groups = list(admm.groupby(inside.PAIR, sort=True))
    if not groups:
        return style.message("No run of ADMM left its distances.", out, NAME)
    libraries = history[history["event"] == "pattern"] if "places" in history else history[:0]
    labels = ["run", *inside.PAIR, "seed"]
    found = libraries.merge(runs[labels], on="run")
    with style.style():
        names = max((part["layer"].unique() for _, part in groups), key=len)
        made, panels = inside.grid(len(groups), 2, [str(name) for name in names])
        for row, (key, part) in zip(panels, groups, strict=True):
            distances(row[0], part)
            density = part["target_density"].iloc[0]
            row[0].set_title(
                f"{key[0]}, {key[1]}, {part['variant'].iloc[0]} at {100 * density:.3g} %",
                loc="left",
            )
            own = found[(found[inside.PAIR] == list(key)).all(axis=1)]
            patterns(row[1], own[own["run"] == own["run"].min()])
        style.legend(made, list(panels[:, 0]))
        return style.save(made, out, NAME)


def distances(axes: Axes, part: pd.DataFrame) -> None:
    """|W - Z| / |W| at the end of each penalty, a line per layer, mean over seeds."""
    for name, look in inside.layer_looks(part).items():
        own = part[part["layer"] == name].groupby("rho")["away"].mean()
        line = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker}
        label = str(name).removesuffix(".weight")
        axes.loglog(own.index, own.clip(lower=1e-6), **line, markersize=3, label=label)
    axes.set(xlabel="penalty", ylabel="distance from the set")


def patterns(axes: Axes, library: pd.DataFrame) -> None:
    """The patterns of a library, most frequent first, with the share of the kernels it counts."""
    axes.axis("off")
    if library.empty:
        axes.text(0.5, 0.5, "no kernel patterns", ha="center", transform=axes.transAxes)
        return
    total = library["kernels"].sum()
    for order, (places, kernels) in enumerate(
        zip(library["places"], library["kernels"], strict=True)
    ):
        grid = np.zeros(9)
        grid[[int(place) for place in str(places).split()]] = 1
        across, down = order % 4, order // 4
        left, top = 4 * across, -5 * down
        axes.imshow(
            grid.reshape(3, 3),
            cmap="Blues",
            vmin=0,
            vmax=1.4,
            extent=(left, left + 3, top - 3, top),
        )
        axes.text(left + 1.5, top - 3.9, f"{100 * kernels / total:.0f} %", ha="center", fontsize=6)
    axes.set_xlim(-0.5, 16)
    axes.set_ylim(-5 * ((len(library) - 1) // 4 + 1), 0.5)
    axes.set_aspect("equal")
