"""The comparison as people read it: variants in rows, densities in columns, a block per net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.tables.cells import GROUP
from bench.tables.render import Block, Cell

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = (
    ("dense", "Dense"),
    ("method", "Methods"),
    ("control", "Controls (layer densities of another run)"),
)


def blocks(comparison: pd.DataFrame, points: pd.DataFrame) -> list[Block]:
    """Top-1 in per cent per (dataset, arch, tier), and below it what the same models cost."""
    if not len(comparison):
        return []
    found = []
    for (dataset, arch, tier), part in comparison.groupby(GROUP, sort=True):
        tested = points[(points["dataset"] == dataset) & (points["arch"] == arch)]
        samples = tested["test_samples"].dropna()
        place, seen = f"{dataset}, {arch}, {tier} tier", int(samples.max()) if len(samples) else 0
        lost = tested.loc[(tested["status"] == "failed") & (tested["tier"] == tier), "run"]
        found.append(accuracy(place, part, seen, lost.nunique()))
        if (part["block"] == "method").any():
            found.append(sizes(place, part))
    return found


def accuracy(place: str, part: pd.DataFrame, samples: int, lost: int) -> Block:
    """Mean ± half-width (n) per variant and density; the best and its ties are bold."""
    targets = sorted(
        set(part.loc[part["block"] != "dense", "target_density"].dropna()), reverse=True
    )
    sections = []
    for block, title in SECTIONS:
        rows = []
        for variant, own in part[part["block"] == block].groupby("variant", sort=True):
            at = {row["target_density"]: row for row in own.to_dict("records")}
            dense = Cell(cell_text(at[1.0])) if block == "dense" else Cell("")
            rest = [
                Cell(cell_text(at[t]), bold=bool(at[t]["best"])) if t in at else Cell("")
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
    return Block(f"Top-1 accuracy, {place}", header, tuple(sections), notes(part, samples, lost))


def cell_text(row: dict[Any, Any]) -> str:
    """`97.31 ± 0.42 (3)`; no interval for one seed, `~` before an interpolated mean.

    Without any seed `failed`, or `not reached` where every run finished and ends before.
    """
    n, mean, half = row["n"], row["top1"], row["top1_half"]
    if n == 0:
        return "failed" if row["failed"] else "not reached"
    mark = "~" if row["interpolated"] else ""
    spread = f" ± {100 * half:.2f}" if half == half else ""
    return f"{mark}{100 * mean:.2f}{spread} ({n})"


def notes(part: pd.DataFrame, samples: int, lost: int) -> tuple[str, ...]:
    """What the numbers are, over what, and what they do not say."""
    ns = sorted({int(n) for n in part["n"] if n > 0})
    many = "–".join(str(n) for n in sorted({*ns[:1], *ns[-1:]})) or "0"  # noqa: RUF001
    lines = [
        f"Mean test accuracy in per cent ± half of the 95 % Student-t interval of the mean over "
        f"n = {many} seeds (n in brackets); columns: requested density, the fraction of prunable "
        "weights kept.",
        f"Tested domain: this data set's {samples} test images, this net, this training budget; "
        "nothing beyond.",
    ]
    if part["best"].any():
        lines.append(
            "Bold: a confidence set for the best method of a column, that is every method that no "
            "other beats at 5 % (paired by seed, Bonferroni over its rivals). Dense nets and "
            "controls do not compete."
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
    """One row per method and density: size, multiply-adds and time side by side."""
    header = (
        "variant", "density", "actual", "compression", "theoretical", "measured", "ms",
        "efficiency", "Δ dense", "worst class", "ECE", "epochs",
    )  # fmt: skip
    rows = []
    for row in part[(part["block"] == "method") & (part["n"] > 0)].to_dict("records"):
        delta = f"{100 * row['delta_dense']:+.2f}"
        delta += (
            f" ± {100 * row['delta_dense_half']:.2f}"
            if row["delta_dense_half"] == row["delta_dense_half"]
            else ""
        )
        texts = (
            row["variant"],
            f"{row['target_density']:g}",
            f"{row['density']:.4f}",
            times(row["compression"]),
            times(row["theoretical_speedup"]),
            times(row["measured_speedup"]),
            number(row["latency_ms"], ".3g"),
            number(row["efficiency"], ".2f"),
            delta,
            number(100 * row["worst_class_drop"], ".1f"),
            number(row["ece"], ".3f"),
            number(row["epochs"], ".3g"),
        )
        rows.append(tuple(Cell(text) for text in texts))
    settings = sorted(set(part["latency_setting"].dropna()))
    missing = sorted(
        set(part.loc[(part["block"] == "method") & (part["n"] > 0), "latency_reason"].dropna())
    )
    speed = (
        [f"Measured: fastest path against the best dense baseline; {'; '.join(settings)}."]
        if settings
        else []
    )
    speed += [f"Not measured (–): {'; '.join(missing)}."] if missing else []  # noqa: RUF001
    return Block(
        f"Size and speed, {place}",
        header,
        (("", tuple(rows)),),
        (
            "Compression: bits on disk of the dense net / of the pruned one (per tensor the "
            "smallest of dense, CSR and bitmap). Theoretical: multiply-adds of the dense net / "
            "those with non-zero weights. Efficiency: measured / theoretical speed-up.",
            *speed,
            "Δ dense: paired by seed, in points. Worst class: largest fall of one class's "
            "accuracy, in points.",
        ),
    )


def number(value: float, form: str) -> str:
    """The formatted number, or a dash where there is none."""
    return f"{value:{form}}" if value == value else "–"  # noqa: RUF001


def times(value: float) -> str:
    """A ratio: `12.3×`."""
    return f"{value:.3g}×" if value == value else "–"  # noqa: RUF001
