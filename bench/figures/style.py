"""What all figures share: colours and marks, small multiples, and repeatable files."""

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
    from matplotlib.figure import Figure, SubFigure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00")
"""Okabe and Ito's colour-blind safe palette, its yellow darkened so that it reads on white."""
MARKS = "osD^vPX<>*hp"
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
GREY = "#B0B0B0"
COLOURS_STORED = 256
"""Of a PNG."""
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


def legend(made: Figure | SubFigure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, below them, each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = legend_columns(made.bbox.width / made.dpi, list(found))
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
    shrink(files[1])
    return files


def shrink(file: Path) -> None:
    """Store a PNG with a palette: a third of the bytes in git, no difference to the eye."""
    from PIL import Image

    with Image.open(file) as image:
        few = image.convert("RGB").quantize(
            COLOURS_STORED, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
        dots = image.info.get("dpi")
    few.save(file, optimize=True, **({"dpi": dots} if dots else {}))


def message(text: str, out: Path, name: str) -> list[Path]:
    """A figure that says why there is nothing to draw."""
    made = figure(COLUMN, 1.2)
    made.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return save(made, out, name)


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
