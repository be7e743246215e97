"""The comparison as people read it: top-1 or error by density, then one row with all numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.tables import choice
from bench.tables.cells import GROUP
from bench.tables.measures import Measure, named
from bench.tables.render import Block, Cell
from bench.tables.sizes import sizes
from bench.tables.texts import cell_text

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = (
    ("dense", "Dense"),
    ("method", "Methods"),
    ("control", "Controls (layer densities or shape of another run)"),
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
            "over its rivals). Dense nets and copies of a method's layer densities or shape do not "
            "compete; random and smaller_dense are methods and do."
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
