"""Inside Taylor-FO: the widths that fall, and the estimate against the true importance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import inside, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "taylor"
METHODS = ("taylor",)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `taylor.{pdf,png}`: widths by step; estimate against oracle, where it was measured.

    A row of panels for each (dataset, arch, tier): of the first variant its lowest density.
    """
    runs, history = (tidy.read(tables, name) for name in ("runs", "history"))
    widths = inside.events(runs, history, "taylor", ["width"])
    probes = inside.events(runs, history, "oracle", ["taylor", "oracle"])
    groups = list(widths.groupby(inside.PAIR, sort=True))
    if not groups:
        return style.message("No run of Taylor-FO left its widths.", out, NAME)
    with style.style():
        layers = max((part["layer"].unique() for _, part in groups), key=len)
        made, panels = inside.grid(len(groups), 2, [str(name) for name in layers])
        for row, (key, part) in zip(panels, groups, strict=True):
            for name, look in inside.layer_looks(part).items():
                own = part[part["layer"] == name].groupby("step")["width"].mean()
                line = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker}
                label = str(name).removesuffix(".weight")
                every = max(1, len(own) // 6)
                row[0].plot(
                    own.index, own / own.iloc[0], **line, markersize=3, markevery=every, label=label
                )
            row[0].set(xlabel="steps", ylabel="channels left")
            row[0].set_ylim(0, 1.02)
            density = part["target_density"].iloc[0]
            row[0].set_title(
                f"{key[0]}, {key[1]}, {part['variant'].iloc[0]} at {100 * density:.3g} %",
                loc="left",
            )
            same = probes[(probes[inside.PAIR] == list(key)).all(axis=1)]
            agreement(row[1], same)
        style.legend(made, list(panels[:, 0]))
        return style.save(made, out, NAME)


def agreement(axes: Axes, probes: pd.DataFrame) -> None:
    """Each probed channel: what Taylor says against what its removal does; their correlation."""
    axes.set(xlabel="change of the loss, squared", ylabel="Taylor's estimate")
    if probes.empty:
        axes.text(0.5, 0.5, "oracle: 0", ha="center", va="center", transform=axes.transAxes)
        return
    true, estimate = (probes[c].to_numpy(dtype=float) for c in ("oracle", "taylor"))
    both = (true > 0) & (estimate > 0)
    axes.loglog(true[both], estimate[both], ".", color=style.COLOURS[0], markersize=3)
    ends = [
        min(true[both].min(), estimate[both].min()),
        max(true[both].max(), estimate[both].max()),
    ]
    axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    ranks = [np.argsort(np.argsort(v)) for v in (true, estimate)]
    linear, rank = np.corrcoef(true, estimate)[0, 1], np.corrcoef(ranks[0], ranks[1])[0, 1]
    axes.set_title(f"correlation {linear:.2f}, of ranks {rank:.2f}, n = {len(true)}", loc="left")
