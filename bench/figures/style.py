"""What all figures share: colours and marks, small multiples, axes, and repeatable files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00")
"""Okabe and Ito's colour-blind safe palette, its yellow darkened so that it reads on white."""
MARKS = "osD^vPX<>*hp"
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
GREY = "#B0B0B0"
COLUMN = 3.4
"""Inches: the width of one column in print; a page has two."""


class Look(NamedTuple):
    """How one variant is drawn; no two variants of a figure look alike."""

    color: str
    marker: str
    linestyle: Any


def looks(variants: Sequence[str]) -> dict[str, Look]:
    """A look for each variant, by position: colour and mark change each time, dashes by sevens."""
    return {
        variant: Look(COLOURS[i % 7], MARKS[(i + i // 84) % 12], LINES[(i // 7) % 4])
        for i, variant in enumerate(sorted(variants))
    }


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib with the style of the paper and a backend that needs no screen."""
    import matplotlib
    import matplotlib.style

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.style.use(Path(__file__).with_name("paper.mplstyle"))
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, outside of pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    class Layout(ConstrainedLayoutEngine):
        """Constrained layout, the same each time."""

        def execute(self, fig: Any) -> Any:
            grids = super().execute(fig)
            snap(fig)
            return grids

    made = Figure(figsize=(width, height), layout=Layout())
    FigureCanvasAgg(made)
    return made


def snap(made: Figure) -> None:
    """Round what the layout placed to a billionth of the figure, without minus zeros.

    The solver of the constrained layout (kiwisolver) adds terms in the order of their addresses in
    memory: two layouts of equal figures can differ in their last bits, and a PDF shows -1e-17 as
    "-0" where another says "0".
    """

    def rounded(values: Any) -> np.ndarray:
        return np.round(values, 9) + 0.0

    parts: list[Any] = list(made.subfigs)
    for part in parts:
        parts += part.subfigs  # those within, which are walked in their turn
        part.bbox_relative.set_points(rounded(part.bbox_relative.get_points()))
    for text in [text for part in [made, *parts] for text in part.texts]:
        text.set_position(tuple(rounded(text.get_position())))  # the layout moves titles of parts
    for axes in made.axes:
        placed = axes.get_in_layout()
        axes.set_position(tuple(rounded(axes.get_position(original=True).bounds)))
        axes.set_in_layout(placed)  # which setting a position ends


def panels(count: int, labels: Sequence[str], height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small multiples, two in a row, with room for a legend of `labels`."""
    columns = min(2, count)
    rows = math.ceil(count / columns)
    lines = math.ceil(len(labels) / legend_columns(COLUMN * columns, labels))
    made = figure(COLUMN * columns, height * rows + 0.16 * lines)
    grid = made.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.remove()
    return made, axes[:count]


def legend(made: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, below them, each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = legend_columns(made.get_figwidth(), list(found))
        made.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def legend_columns(width: float, labels: Sequence[str]) -> int:
    """How many columns of these labels fit into `width` inches."""
    longest = max(len(label) for label in labels)
    return max(1, min(5, int(width / (0.5 + 0.062 * longest))))


def save(made: Figure, out: Path, name: str) -> list[Path]:
    """Write `<out>/<name>.pdf` and `.png` without dates or versions: equal data, equal files."""
    out.mkdir(parents=True, exist_ok=True)
    empty = {"pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}}
    files = [out / f"{name}.pdf", out / f"{name}.png"]
    for file in files:
        made.savefig(file, metadata=empty.get(file.suffix[1:], {"Software": None}))
    return files


def message(text: str, out: Path, name: str) -> list[Path]:
    """A figure that says why there is nothing to draw."""
    made = figure(COLUMN, 1.2)
    made.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return save(made, out, name)


def accuracy_axis(axes: Axes, values: Sequence[float], floor: float, error: bool = False) -> None:
    """A y axis on which the error shrinks logarithmically upwards, labelled in per cent.

    It shows 98.9 against 99.1 per cent as clearly as 60 against 70. `floor` is the smallest error
    drawn (half a test sample). With `error` the labels are errors, 1 - `values`.
    """
    from matplotlib.scale import FuncScale

    def forward(accuracy: Any) -> Any:
        return -np.log(np.maximum(1 - np.asarray(accuracy, dtype=float), floor))

    def backward(height: Any) -> Any:
        return 1 - np.exp(-np.asarray(height, dtype=float))

    axes.set_yscale(FuncScale(axes.yaxis, (forward, backward)))
    low, high = forward(min(values)), forward(max(values))
    margin = 0.05 * max(high - low, 0.05)
    bottom, top = backward(low - margin), min(backward(high + margin), 1 - floor)
    ticks = accuracy_ticks(float(bottom), float(top), forward)
    axes.set_yticks(ticks, [f"{100 * (1 - t if error else t):.6g}" for t in ticks])
    axes.set_ylim(float(bottom), float(top))


def accuracy_ticks(bottom: float, top: float, forward: Any) -> list[float]:
    """Round accuracies within the limits, legibly far apart, finer where the range is small."""
    nice = [
        -99, -49, -19, -9, -4, -1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95,
        0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
    ]  # fmt: skip
    ticks = [value for value in nice if bottom <= value <= top]
    if len(ticks) < 3:
        step = 10 ** math.floor(math.log10(max(top - bottom, 1e-4))) / 2
        ticks = [value for value in np.round(np.arange(0, 1, step), 6) if bottom <= value <= top]
    gap = (forward(top) - forward(bottom)) / 11
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or forward(kept[-1]) - forward(tick) >= gap:
            kept.append(float(tick))
    return kept[::-1]


def density_axis(axes: Axes, values: Sequence[float], asked: Sequence[float]) -> None:
    """A log2 x axis over the densities `values`, dense on the left.

    It has a tick at each of the densities `asked`, and beyond them at halves; each says what is
    kept and, below it, what is gone.
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
    axes.set_xticks(
        ticks, [f"{100 * tick:.3g} %\n({100 - 100 * tick:.3g})" for tick in ticks], minor=False
    )
    axes.minorticks_off()
    axes.set_xlim(high * 1.25, low / 1.25)
    axes.set_xlabel("weights kept (and removed, %)")


def log_axis(axes: Axes, values: Sequence[float], label: str) -> None:
    """A log2 x axis with ticks 1, 2, 5, 10, ..., most costly on the left."""
    high, low = max(values), max(min(values), 1e-9)
    if high < 2 * low:
        high, low = high * 1.5, low / 1.5
    high, low = high * 1.2, low / 1.2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = (1, 1.5, 2, 3, 4, 5, 7) if high < 6 * low else (1, 2, 5)
    ticks = [
        lead * 10.0**power for power in powers for lead in fine if low <= lead * 10.0**power <= high
    ]
    while len(ticks) > 8:
        ticks = ticks[::2]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [count(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(high, low)
    axes.set_xlabel(label)


def count(value: float) -> str:
    """12345 -> `12.3k`."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def summed(seeds: pd.DataFrame, x: str) -> list[tuple[str, str, pd.DataFrame]]:
    """The means of one panel: block, variant and rows of x, mean, low, high, densest first.

    A row is a `step`; x is its geometric mean over the seeds, since all x axes are logarithmic.
    """
    import pandas as pd

    from bench import stats

    found = []
    for (block, variant), own in seeds.groupby(["block", "variant"], sort=True):
        rows = []
        for _, cell in own.groupby("step", sort=True):
            interval = stats.mean(cell["score"])
            place = float(np.exp(np.log(cell[x].astype("float64")).mean()))
            rows.append((place, interval.mean, interval.low, interval.high))
        table = pd.DataFrame(rows, columns=["x", "mean", "low", "high"])
        found.append((str(block), str(variant), table))
    return found
