"""What the figures of a method's inside share: its runs with their parameters, and a grid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench import stats, tidy
from bench.figures import scales, style
from bench.method import Method, make

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 2 * style.COLUMN
PAIR = ["dataset", "arch", "tier"]


def runs_of(method: str, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `runs` that ran `method`, with `setting`: its parameters, defaults included.

    Controls, which borrow another method's densities, are left out.
    """
    own = runs[(runs["method"] == method) & runs["like"].isna()]
    return own.assign(setting=[make(method, json.loads(params)) for params in own["params"]])


def differing(settings: Iterable[Method], but: Iterable[str]) -> list[str]:
    """The parameters, other than those in `but`, that are not the same in all `settings`."""
    dumps = [setting.model_dump() for setting in settings]
    names = [] if not dumps else [name for name in dumps[0] if name not in set(but)]
    return [name for name in names if any(dump[name] != dumps[0][name] for dump in dumps)]


def worded(setting: Method, names: Iterable[str]) -> str:
    """`p=1, q=2` for those parameters."""
    values = {name: getattr(setting, name) for name in names}
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def grid(rows: int, columns: int, labels: Iterable[str]) -> tuple[Figure, Any]:
    """A page-wide figure of `rows` x `columns` panels, with room for a legend of `labels`.

    The panels are an array (rows, columns).
    """
    words = list(labels)
    lines = -(-len(words) // style.legend_columns(WIDTH, words))
    made = style.figure(WIDTH, 0.45 + 1.45 * rows + 0.16 * lines)
    return made, made.subplots(rows, columns, squeeze=False)


def curve(axes: Axes, table: pd.DataFrame, x: str, y: str, look: style.Look, label: str) -> Any:
    """Mean of `y` over the seeds at each `step` of `table`, with t intervals as a band.

    It stands at the geometric mean of `x` or, where x is the step, at the step. Returns the means.
    """
    rows = []
    for _, cell in table.groupby("step", sort=True):
        interval, place = stats.mean(cell[y].astype(float)), cell[x].astype(float)
        middle = float(place.iloc[0]) if x == "step" else float(np.exp(np.log(place).mean()))
        rows.append((middle, *interval[:3]))
    at, mean, low, high = np.array(rows, dtype=float).reshape(-1, 4).T
    mark = {"color": look.color, "marker": look.marker, "linestyle": look.linestyle}
    axes.plot(at, mean, label=label, markersize=2.2, linewidth=0.9, zorder=3, **mark)
    axes.fill_between(at, low, high, color=look.color, alpha=0.15, lw=0, zorder=1)
    return mean


def accuracy_axis(axes: Axes, values: list[float], samples: float) -> None:
    """`scales.accuracy_axis` with the fewer ticks that a low panel holds; `samples`: of a test."""
    scales.accuracy_axis(axes, values, 0.5 / max(samples, 1.0))
    ticks = axes.get_yticks()
    kept = ticks[:: -(-len(ticks) // 6)]
    axes.set_yticks(kept, [f"{100 * tick:.6g}" for tick in kept])


def kept_axis(axes: Axes, which: Literal["x", "y"], values: Iterable[float]) -> None:
    """A logarithmic axis over densities with few ticks, for a narrow panel.

    As x axis it is dense on the left.
    """
    shown = list(values)
    low, high = min(shown) / 1.2, max(shown) * 1.2
    if (narrow := 5 * low / high) > 1:
        low, high = low / narrow**0.5, high * narrow**0.5
    for leads in ((1, 2, 5), (1, 3), (1,)):
        every = [lead * 10.0**power for power in range(-7, 1) for lead in leads]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) <= 5:
            break
    axes.set(**{f"{which}scale": "log", f"{which}label": "weights kept, %"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, labels=[f"{100 * tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)
    axes.set(**{f"{which}lim": (high, low) if which == "x" else (low, high)})


@dataclass(frozen=True)
class Lines:
    """A panel with a line per layer: `column` of an event by `x`, the mean over the seeds."""

    column: str
    label: str
    x: tuple[str, str] = ("step", "steps")
    """A column and its label."""
    scale: Literal["fraction", "linear", "log", "loglog"] = "fraction"
    """Of the axes; a fraction is shown from 0 to 1, in per cent where the label says %."""

    def __call__(self, axes: Axes, part: pd.DataFrame) -> None:
        """Draw the lines of one net; `part`: as from `events`."""
        factor = 100 if "%" in self.label else 1
        for layer, look in layer_looks(part).items():
            own = part[part["layer"] == layer].groupby(self.x[0])[self.column]
            values = factor * own.mean()
            trace(axes, values, look, str(layer).removesuffix(".weight"))
        if self.scale == "fraction":
            axes.set_ylim(-0.02 * factor, 1.02 * factor)
        elif self.scale == "linear":
            axes.set_ylim(0, 1.08 * factor * part[self.column].max())
        elif self.scale == "log":
            scales.plain_axis(axes, "y", list(factor * part[self.column]))
        else:
            axes.set(xscale="log", yscale="log")
        axes.set(xlabel=self.x[1], ylabel=self.label)


def trace(axes: Axes, values: pd.Series, look: style.Look, label: str) -> None:
    """A line over the index of `values`, with some marks."""
    axes.plot(
        values.index,
        values,
        color=look.color,
        marker=look.marker,
        linestyle=look.linestyle,
        markersize=3,
        markevery=max(1, len(values) // 6),
        label=label,
    )


Panel = Callable[["Axes", "pd.DataFrame"], None]


def by_layer(
    tables: Path, out: Path, name: str, event: str, panels: Sequence[Lines | Panel]
) -> list[Path]:
    """Write `name`.{pdf,png}: panels over the lines of the history's `event`, layers named beside.

    A row of `panels` for each method of each (dataset, arch, tier), of the lowest density of its
    first variant. The first of them is `Lines`; each is given the row's lines (see `events`).
    """
    needed = [panel.column for panel in panels if isinstance(panel, Lines)]
    lines = events(tidy.read(tables, "runs"), tidy.read(tables, "history"), event, needed)
    groups = list(lines.groupby([*PAIR, "method"], sort=True))
    if not groups:
        return style.message(f"No run left lines of {event}.", out, name)
    with style.style():
        widest = max(part["layer"].nunique() for _, part in groups)
        height = max(1.9, 0.15 * widest) + 0.2
        made = style.figure(WIDTH, height * len(groups))
        grid = made.subplots(len(groups), len(panels), squeeze=False)
        for row, (key, part) in zip(grid, groups, strict=True):
            for axes, panel in zip(row, panels, strict=True):
                panel(axes, part)
            density = part["target_density"].iloc[0]
            row[0].set_title(
                f"{key[0]}, {key[1]}, {part['variant'].iloc[0]} at {100 * density:.3g} %",
                loc="left",
            )
            named = row[0].get_legend_handles_labels()
            row[-1].legend(*named, loc="center left", bbox_to_anchor=(1.02, 0.5))
        return style.save(made, out, name)


def events(
    runs: pd.DataFrame, history: pd.DataFrame, event: str, needed: Iterable[str]
) -> pd.DataFrame:
    """The lines of `event` with the labels of their run: first variant, lowest density.

    Of each method of each (dataset, arch, tier); empty where a column that is `needed` is missing.
    """
    if any(column not in history for column in ("event", *needed)):
        return runs.iloc[:0]
    labels = ["run", *PAIR, "method", "variant", "target_density", "seed"]
    lines = history[history["event"] == event].merge(runs[labels], on="run")
    for column in ("variant", "target_density"):
        first = lines.groupby([*PAIR, "method"])[column].transform("min")
        lines = lines[lines[column] == first]
    return lines


def layer_looks(part: pd.DataFrame) -> dict[str, style.Look]:
    """Layer -> how its line looks, in the order of the net."""
    layers = list(dict.fromkeys(part["layer"]))
    numbered = style.looks([f"{i:03d} {name}" for i, name in enumerate(layers)])
    return dict(zip(layers, numbered.values(), strict=True))
