"""The comparison as people read it: top-1 or error by density, then one row with all numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.tables import choice
from bench.tables.cells import GROUP
from bench.tables.measures import Measure, named
from bench.tables.render import Block, Cell

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = (
    ("dense", "Dense"),
    ("method", "Methods"),
    ("control", "Controls (layer densities of another run)"),
)


def blocks(comparison: pd.DataFrame, points: pd.DataFrame) -> list[Block]:
    """Per (dataset, arch, tier): its measure by density, then all numbers of a model in a row."""
    if not len(comparison):
        return []
    found = []
    for (dataset, arch, tier), part in comparison.groupby(GROUP, sort=True):
        tested = points[(points["dataset"] == dataset) & (points["arch"] == arch)]
        samples = tested["test_samples"].dropna()
        place, seen = f"{dataset}, {arch}, {tier} tier", int(samples.max()) if len(samples) else 0
        lost = tested.loc[(tested["status"] == "failed") & (tested["tier"] == tier), "run"]
        found.append(by_density(place, part, seen, lost.nunique()))
        if (part.loc[part["block"] == "method", "n"] > 0).any():
            found.append(sizes(place, part))
            found += choice.blocks(place, part)
    return found


def by_density(place: str, part: pd.DataFrame, samples: int, lost: int) -> Block:
    """Mean ± half-width (n) per variant and density; the best and its ties are bold."""
    what = named(part)
    targets = sorted(
        set(part.loc[part["block"] != "dense", "target_density"].dropna()), reverse=True
    )
    sections = []
    for block, title in SECTIONS:
        rows = []
        for variant, own in part[part["block"] == block].groupby("variant", sort=True):
            at = {row["target_density"]: row for row in own.to_dict("records")}
            dense = Cell(cell_text(at[1.0], what)) if block == "dense" else Cell("")
            rest = [
                Cell(cell_text(at[t], what), bold=bool(at[t]["best"])) if t in at else Cell("")
                for t in targets
            ]
            rows.append(
                (
                    Cell(str(variant)),
                    dense,
                    *(rest if block != "dense" else [Cell("")] * len(targets)),
                )
            )
        if rows:
            sections.append((title, tuple(rows)))
    header = ("variant", "1", *(f"{target:g}" for target in targets))
    lines = notes(part, what, samples, lost)
    return Block(f"{what.title}, {place}", header, tuple(sections), lines)


def cell_text(row: dict[Any, Any], what: Measure) -> str:
    """`97.31 ± 0.42 (3)`; no interval for one seed, `~` before an interpolated mean.

    Without any seed `failed`, or `not reached` where every run finished and ends before.
    """
    n, mean, half = row["n"], row[what.column], row[f"{what.column}_half"]
    if n == 0:
        return "failed" if row["failed"] else "not reached"
    mark = "~" if row["interpolated"] else ""
    spread = f" ± {100 * half:.2f}" if half == half else ""
    return f"{mark}{100 * mean:.2f}{spread} ({n})"


def notes(part: pd.DataFrame, what: Measure, samples: int, lost: int) -> tuple[str, ...]:
    """What the numbers are, over what, and what they do not say."""
    ns = sorted({int(n) for n in part["n"] if n > 0})
    many = "–".join(str(n) for n in sorted({*ns[:1], *ns[-1:]})) or "0"  # noqa: RUF001
    lines = [
        f"{what.note} ± half of the 95 % Student-t interval of the mean over "
        f"n = {many} seeds (n in brackets); columns: requested density, the fraction of prunable "
        "weights kept.",
        f"Tested domain: this data set's {samples} {what.samples}, this net, this training budget; "
        "nothing beyond.",
    ]
    if part["best"].any():
        lines.append(
            "Bold: a confidence set for the best method of a column, that is every method that no "
            "other beats at 5 % (paired by seed, variances moderated over all pairs, Bonferroni "
            "over its rivals). Dense nets and controls do not compete."
        )
    if (part["n"] == 1).any():
        lines.append("A cell with one seed has no interval and does not compete.")
    if part["interpolated"].any():
        lines.append(
            "~ read off a curve of several densities: per seed, linear in log density, never "
            "extrapolated."
        )
    lines += short(part[part["unreached"] > 0])
    if lost:
        lines.append(
            f"{lost} failed runs are not in the means; the failures table has their reasons."
        )
    return tuple(lines)


def short(part: pd.DataFrame) -> list[str]:
    """A footnote, if it is needed: the curves that end before a density, and where they run."""
    found: dict[str, None] = {}
    for row in part.to_dict("records"):
        where = row["variant"]
        if row["n"] or row["failed"]:
            where += f" at {row['target_density']:g} ({row['unreached']} of the seeds)"
        found[f"{where}: {row['reason']}"] = None
    if not found:
        return []
    return [
        "Not reached: a curve of several densities ends before this one. " + "; ".join(found) + "."
    ]


def sizes(place: str, part: pd.DataFrame) -> Block:
    """The one row per method and density, the dense nets first: accuracy, size, work and time."""
    what = named(part)
    shown = part[part["block"].isin(["dense", "method"]) & (part["n"] > 0)]
    unit, bits = ("MiB", 2**23) if shown["bits"].max() >= 2**23 else ("KiB", 2**13)
    fewer = quantised(shown)
    header = (
        "variant", "density", f"{what.short}, %", "Δ dense", "before", "actual", f"size, {unit}",
        "compression", "multiply-adds, M", "theoretical",
        *(("bits", "BOPs") if fewer else ()), "measured", "ms", "efficiency",
        *(() if what.lower else ("worst class", "ECE")), "epochs",
    )  # fmt: skip
    rows = [
        tuple(Cell(text) for text in size_row(row, bits, what, fewer))
        for row in shown.to_dict("records")
    ]
    return Block(
        f"{what.kind}, size and speed in one row, {place}",
        header,
        (("", tuple(rows)),),
        size_notes(shown, what, lost=bool((part.loc[part["block"] != "control", "n"] == 0).any())),
        wide=True,
    )


def quantised(shown: pd.DataFrame) -> bool:
    """Whether a net computes with fewer than 32 bits anywhere."""
    return bool((shown[["weight_bits", "activation_bits"]] < 32).any(axis=None))


def size_row(row: dict[Any, Any], bits: int, what: Measure, fewer: bool) -> tuple[str, ...]:
    """The texts of one row; `bits`: how many make the unit of size; `fewer`: show precisions."""
    of_classes = number(100 * row["worst_class_drop"], ".1f"), number(row["ece"], ".3f")
    both = "/".join(number(row[f"{kind}_bits"], ".3g") for kind in ("weight", "activation"))
    precision = (both, times(row["bop_reduction"])) if fewer else ()
    return (
        str(row["variant"]),
        f"{row['target_density']:g}",
        cell_text(row, what),
        spread(100 * row["delta_dense"], 100 * row["delta_dense_half"]),
        number(100 * row[f"{what.column}_before"], ".2f"),
        number(row["density"], ".4f"),
        digits(row["bits"] / bits),
        times(row["compression"]),
        digits(row["effective_macs"] / 1e6),
        times(row["theoretical_speedup"]),
        *precision,
        measured(row),
        digits(row["latency_ms"]),
        number(row["efficiency"], ".2f"),
        *(() if what.lower else of_classes),
        number(row["epochs"], ".4g"),
    )


def size_notes(shown: pd.DataFrame, what: Measure, lost: bool) -> tuple[str, ...]:
    """What the columns are, under which setting times were taken, and why some are missing."""
    lines = [
        f"{what.name} and its interval as above. Δ dense: paired by seed, in points, ± half of its "
        f"95 % interval. Before: {what.short} in per cent before the last fine-tuning. Actual: "
        "share of the prunable weights that is not zero.",
        "Size: on disk (per tensor the smallest of dense, CSR and bitmap). Compression: "
        "that of the dense net / this. Multiply-adds: millions for one sample, those with "
        "non-zero weights. Theoretical speed-up: those of the dense net / these.",
    ]
    if quantised(shown):
        lines.append(
            "Bits: of a non-zero weight / of what it is multiplied with, means. BOPs: bit "
            "operations (multiply-adds times both), those of the dense net / these."
        )
    settings = sorted(set(shown["latency_setting"].dropna()))
    if settings:
        lines.append(
            "Measured speed-up: fastest path against the best dense baseline with its 95 % "
            "interval over repetitions, of the seed in the middle where several were timed; ms per "
            f"batch; {'; '.join(settings)}. Efficiency: measured / theoretical."
        )
    missing = sorted(set(shown["latency_reason"].dropna()))
    if missing:
        lines.append(f"Not measured (–): {'; '.join(missing)}.")  # noqa: RUF001
    of_classes = (
        "Worst class: largest fall of one class's accuracy, in points. ECE: calibration error over "
        "15 bins. "
    )
    lines.append(
        f"{'' if what.lower else of_classes}Epochs: trained beyond the start. All but the times "
        "are means over the seeds."
    )
    if shown["interpolated"].any():
        lines.append("~ every number of the row is read off between two points of a curve.")
    if lost:
        lines.append("A density that no seed reached or finished is in the table above only.")
    return tuple(lines)


def measured(row: dict[Any, Any]) -> str:
    """The measured speed-up and its interval: `1.52× [1.47, 1.56]`."""
    low, high = digits(row["speedup_low"]), digits(row["speedup_high"])
    interval = f" [{low}, {high}]" if row["speedup_low"] == row["speedup_low"] else ""
    return f"{times(row['measured_speedup'])}{interval}"


def spread(value: float, half: float) -> str:
    """A signed difference: `-0.42 ± 0.10`; no interval for one seed, a dash for no difference."""
    interval = f" ± {half:.2f}" if half == half else ""
    return f"{number(value, '+.2f')}{interval}"


def number(value: float, form: str) -> str:
    """The formatted number, or a dash where there is none."""
    return f"{value:{form}}" if value == value else "–"  # noqa: RUF001


def digits(value: float) -> str:
    """Three significant digits, never as a power of ten: `0.0123`, `1.20`, `12346`; or a dash."""
    if value != value or not value:
        return number(value, "g")
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def times(value: float) -> str:
    """A ratio: `12.3×`."""
    return f"{digits(value)}×" if value == value else digits(value)  # noqa: RUF001
