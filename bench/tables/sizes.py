"""One row per model with all of its numbers: accuracy, size, work, time and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.tables.cost import PHASES
from bench.tables.measures import Measure, named
from bench.tables.render import Block, Cell
from bench.tables.texts import cell_text, digits, number, spread, times

if TYPE_CHECKING:
    import pandas as pd

Row = dict[Any, Any]


class Column(NamedTuple):
    """A column of the table: its head, a row's text, what it is, and whether a table needs it."""

    head: str
    text: Callable[[Row], str]
    note: str = ""
    needed: bool = True


def sizes(place: str, part: pd.DataFrame) -> Block:
    """The one row per method and density, the dense nets first."""
    what = named(part)
    shown = part[part["block"].isin(["dense", "method"]) & (part["n"] > 0)]
    used = [column for column in columns(shown, what) if column.needed]
    rows = [tuple(Cell(column.text(row)) for column in used) for row in shown.to_dict("records")]
    lost = bool((part.loc[part["block"] != "control", "n"] == 0).any())
    return Block(
        f"{what.kind}, size and speed in one row, {place}",
        tuple(column.head for column in used),
        (("", tuple(rows)),),
        notes(shown, [column.note for column in used if column.note], lost),
        wide=True,
    )


def columns(shown: pd.DataFrame, what: Measure) -> list[Column]:
    """Every column there may be; those of bits, paths and energy where something fills them."""
    unit, bits = ("MiB", 2**23) if shown["bits"].max() >= 2**23 else ("KiB", 2**13)
    fewer = bool((shown[["weight_bits", "activation_bits"]] < 32).any(axis=None))
    timed = bool(shown["latency_ms"].notna().any())
    settings = "; ".join(sorted(set(shown["latency_setting"].dropna())))
    return [
        Column("variant", lambda row: str(row["variant"])),
        Column("density", lambda row: f"{row['target_density']:g}"),
        Column(f"{what.short}, %", lambda row: cell_text(row, what),
               f"{what.name} and its interval as above."),
        Column("Δ dense",
               lambda row: spread(100 * row["delta_dense"], 100 * row["delta_dense_half"]),
               "Δ dense: paired by seed, in points, ± half of its 95 % interval."),
        Column("against its controls", lambda row: said(row["controls"]),
               "Against its controls: masks with its own layer densities, its shape trained from "
               "scratch, a smaller dense net of the same density; at 5 %, corrected (Holm).",
               bool(shown["controls"].notna().any())),
        Column("before", lambda row: number(100 * row[f"{what.column}_before"], ".2f"),
               f"Before: {what.short} in per cent before the last fine-tuning."),
        Column("actual", lambda row: number(row["density"], ".4f"),
               "Actual: share of the prunable weights that is not zero."),
        Column(f"size, {unit}", lambda row: digits(row["bits"] / bits),
               "Size: on disk (per tensor the smallest of dense, CSR and bitmap)."),
        Column("compression", lambda row: times(row["compression"]),
               "Compression: that of the dense net / this."),
        Column("multiply-adds, M", lambda row: digits(row["effective_macs"] / 1e6),
               "Multiply-adds: millions for one sample, those with non-zero weights."),
        Column("theoretical", lambda row: times(row["theoretical_speedup"]),
               "Theoretical speed-up: those of the dense net / these."),
        Column("bits", precision,
               "Bits: of a non-zero weight / of what it is multiplied with, means.", fewer),
        Column("BOPs", lambda row: times(row["bop_reduction"]),
               "BOPs: bit operations (multiply-adds times both), those of the dense net / these.",
               fewer),
        Column("measured", measured,
               "Measured speed-up: fastest path against the best dense baseline with its 95 % "
               "interval over repetitions (two processes can differ by more), of the seed in the "
               "middle where several were timed; ms "
               f"per batch; {settings}." * timed),
        Column("ms", lambda row: digits(row["latency_ms"])),
        Column("efficiency", lambda row: number(row["efficiency"], ".2f"),
               "Efficiency: measured / theoretical." * timed),
        Column("other paths", lambda row: said(row["other_paths"]),
               "Other paths: their speed-ups, against the same baseline.",
               bool(shown["other_paths"].notna().any())),
        Column("energy, mJ", lambda row: digits(row["energy_mj"]),
               "Energy: of one sample on the fastest path.",
               bool(shown["energy_mj"].notna().any())),
        Column("worst class", lambda row: number(100 * row["worst_class_drop"], ".1f"),
               "Worst class: largest fall of one class's accuracy, in points.", not what.lower),
        Column("ECE", lambda row: number(row["ece"], ".3f"),
               "ECE: calibration error over 15 bins.", not what.lower),
        Column("epochs", lambda row: number(row["epochs"], ".4g"),
               "Epochs: trained beyond the start."),
        Column("train, s", lambda row: digits(sum(row[f"seconds_{phase}"] for phase in PHASES)),
               "Train: device-seconds from untrained weights to this net, the dense start "
               "included; of a curve, for all of its densities; more where other runs ran beside."),
    ]  # fmt: skip


def notes(shown: pd.DataFrame, about: list[str], lost: bool) -> tuple[str, ...]:
    """What the columns are, and why some numbers are missing."""
    lines = [" ".join(about) + " All but the times are means over the seeds."]
    missing = sorted(set(shown["latency_reason"].dropna()))
    if missing:
        lines.append(f"Not measured (–): {'; '.join(missing)}.")  # noqa: RUF001
    if shown["interpolated"].any():
        lines.append("~ every number of the row is read off between two points of a curve.")
    if lost:
        lines.append("A density that no seed reached or finished is in the table above only.")
    return tuple(lines)


def precision(row: Row) -> str:
    """Bits of a weight and of its input: `8/32`."""
    return "/".join(number(row[f"{kind}_bits"], ".3g") for kind in ("weight", "activation"))


def measured(row: Row) -> str:
    """The measured speed-up and its interval: `1.52× [1.47, 1.56]`."""
    low, high = digits(row["speedup_low"]), digits(row["speedup_high"])
    interval = f" [{low}, {high}]" if row["speedup_low"] == row["speedup_low"] else ""
    return f"{times(row['measured_speedup'])}{interval}"


def said(text: Any) -> str:
    """A text, or nothing where there is none."""
    return text if isinstance(text, str) else ""
