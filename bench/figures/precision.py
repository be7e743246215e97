"""Inside DJPQ: how many channels each layer has left, and how many bits it works with."""

from __future__ import annotations

from pathlib import Path

from bench import tidy
from bench.figures import inside, style

NAME = "precision"
METHODS = ("djpq",)
SHOWN = {
    "width": "channels",
    "weight_bits": "bits of weights",
    "activation_bits": "bits of activations",
}
"""Columns of the event `precision` and the labels of their axes."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `precision.{pdf,png}`: the three measures by step, a line per layer, mean over seeds.

    A row of panels for each (dataset, arch, tier): of the first variant its lowest density.
    """
    runs, history = (tidy.read(tables, name) for name in ("runs", "history"))
    lines = inside.events(runs, history, "precision", SHOWN)
    groups = list(lines.groupby(inside.PAIR, sort=True))
    if not groups:
        return style.message("No run of DJPQ left its bit-widths.", out, NAME)
    with style.style():
        layers = max((part["layer"].unique() for _, part in groups), key=len)
        made, panels = inside.grid(len(groups), len(SHOWN), [str(name) for name in layers])
        for row, (key, part) in zip(panels, groups, strict=True):
            for axes, (column, label) in zip(row, SHOWN.items(), strict=True):
                for name, look in inside.layer_looks(part).items():
                    means = part[part["layer"] == name].groupby("step")[column].mean()
                    mark = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker}
                    own = str(name).removesuffix(".weight")
                    axes.plot(means.index, means, **mark, markersize=3, label=own)
                axes.set(xlabel="steps", ylabel=label)
                if column == "width":
                    axes.set_yscale("log")
                else:
                    axes.set_ylim(0, 1.08 * part[column].max())
            density = part["target_density"].iloc[0]
            row[0].set_title(
                f"{key[0]}, {key[1]}, {part['variant'].iloc[0]} at {100 * density:.3g} %",
                loc="left",
            )
        style.legend(made, list(panels[:, 0]))
        return style.save(made, out, NAME)
