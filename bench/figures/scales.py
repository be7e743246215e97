"""Scales and ticks: accuracies whose errors shrink logarithmically, densities, counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENOUGH = 20


def accuracy_axis(
    axes: Axes,
    values: Sequence[float],
    floor: float,
    error: bool = False,
    which: Literal["x", "y"] = "y",
    most: int = 11,
) -> None:
    """An axis on which the error shrinks logarithmically, labelled in per cent.

    It shows 98.9 against 99.1 per cent as clearly as 60 against 70. `floor` is the smallest error
    drawn (half a test sample). With `error` the labels are errors, 1 - `values`. `most`: labels.
    """
    from matplotlib.scale import FuncScale

    def forward(accuracy: Any) -> Any:
        return height(accuracy, floor)

    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": FuncScale(axis, (forward, accuracy_at))})
    low, high = forward(min(values)), forward(max(values))
    margin = 0.05 * max(high - low, 0.05)
    bottom, top = accuracy_at(low - margin), min(accuracy_at(high + margin), 1 - floor)
    ticks = accuracy_ticks(float(bottom), float(top), forward, most)
    labels = [f"{100 * (1 - t if error else t):.6g}" for t in ticks]
    axis.set_ticks(ticks, labels=labels)
    axes.set(**{f"{which}lim": (float(bottom), float(top))})


def height(accuracy: Any, floor: float) -> Any:
    """Where an accuracy stands on that axis: minus the logarithm of the error."""
    return -np.log(np.maximum(1 - np.asarray(accuracy, dtype=float), floor))


def accuracy_at(height: Any) -> Any:
    """The accuracy that stands there."""
    return 1 - np.exp(-np.asarray(height, dtype=float))


def fenced(values: Sequence[float], floor: float) -> list[float]:
    """The accuracies without those that lie far below the others: nets that collapsed.

    Far is Tukey's fence, one and a half times the distance of the quartiles below the lower one, on
    the axis of `accuracy_axis`. A panel that held them all could show nothing else. Of fewer than
    `ENOUGH` the quartiles say little, and all stay.
    """
    if len(values) < ENOUGH:
        return list(values)
    places = height(values, floor)
    lower, upper = np.quantile(places, [0.25, 0.75])
    least = lower - 1.5 * (upper - lower)
    return [value for value, place in zip(values, places, strict=True) if place >= least]


def accuracy_ticks(bottom: float, top: float, forward: Any, most: int = 11) -> list[float]:
    """Round accuracies within the limits, legibly far apart, finer where the range is small."""
    nice = [
        -99, -49, -19, -9, -4, -1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9,
        0.91, 0.92, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
    ]  # fmt: skip
    ticks = [value for value in nice if bottom <= value <= top]
    if len(ticks) < 3:
        step = 10 ** math.floor(math.log10(max(top - bottom, 1e-4))) / 2
        ticks = [value for value in np.round(np.arange(0, 1, step), 6) if bottom <= value <= top]
    gap = (forward(top) - forward(bottom)) / most
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or forward(kept[-1]) - forward(tick) >= gap:
            kept.append(float(tick))
    return kept[::-1]


def density_axis(
    axes: Axes, values: Sequence[float], asked: Sequence[float], removed: bool = True
) -> None:
    """A log2 x axis over the densities `values`, dense on the left.

    It has a tick at each of the densities `asked`, and beyond them at halves; each says what is
    kept and, below it, what is gone, but in a narrow panel, which has no room for that.
    """
    high, low = max(values), min(values)
    ticks = sorted(asked)
    while len(ticks) > 6:
        ticks = ticks[::2]
    edge = (ticks[-1], ticks[0]) if ticks else (low, high)
    halves = [0.5**power for power in range(12)]
    ticks += [t for t in halves if 1.5 * edge[0] < t < 1.1 * high or low / 1.1 < t < edge[1] / 1.5]
    ticks = [t for t in ticks if low / 1.2 <= t <= high * 1.2]
    axes.set_xscale("log", base=2)
    axes.set_xlim(high * 1.25, low / 1.25)
    ticks = ticks if removed else apart(axes, ticks, 0.14)
    names = [f"{100 * tick:.3g}" for tick in ticks]
    if removed:
        names = [f"{kept} %\n({100 - 100 * t:.3g})" for kept, t in zip(names, ticks, strict=True)]
    axes.set_xticks(ticks, names)
    axes.minorticks_off()
    axes.set_xlabel("weights kept (and removed, %)" if removed else "weights kept, %")


def log_axis(axes: Axes, values: Sequence[float], label: str, gap: float = 0.1) -> None:
    """A log2 x axis with ticks 1, 2, 5, 10, ..., most costly on the left.

    `gap`: between two ticks at least, as a share of the axis.
    """
    high, low = max(values), max(min(values), 1e-9)
    if high < 2 * low:
        high, low = high * 1.5, low / 1.5
    high, low = high * 1.2, low / 1.2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = (1, 5, 2, 3, 7, 4, 1.5) if high < 6 * low else (1, 5, 2)
    axes.set_xscale("log", base=2)
    axes.set_xlim(high, low)
    ticks = apart(axes, [lead * 10.0**power for lead in fine for power in powers], gap)
    axes.set_xticks(ticks, [count(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)


def plain_axis(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """A logarithmic axis over `values` with ticks 1, 2, 5, 10, ..., written as numbers."""
    low, high = max(float(min(values)), 1e-3) / 1.3, float(max(values)) * 1.3
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    every = [lead * 10.0**power for power in range(-3, 10) for lead in (1, 2, 5)]
    ticks = [tick for tick in every if low <= tick <= high]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, labels=[count(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def apart(axes: Axes, wanted: Sequence[float], gap: float = 0.1) -> list[float]:
    """The `wanted` x ticks within the limits whose labels do not touch; the first ones win.

    `gap`: what is left between two of them, as a share of the axis.
    """
    low, high = axes.transScale.transform([(x, 0) for x in axes.get_xlim()])[:, 0]
    kept: dict[float, float] = {}
    for tick in wanted:
        place = (axes.transScale.transform((tick, 0))[0] - low) / (high - low)
        if 0 <= place <= 1 and all(abs(place - other) > gap for other in kept.values()):
            kept[tick] = place
    return sorted(kept)


def count(value: float) -> str:
    """12345 -> `12.3k`."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"
