"""A campaign's tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.speed.rows import DENSE, SETTING, crossovers, csv_of, rows_of
from bench.tables.render import Block, Cell, latex, line, markdown

if TYPE_CHECKING:
    import pandas as pd

WIN = 1.03
"""What the whole interval of a speed-up has to be above, to be called one."""
RESTARTS = 3
"""And over how many processes."""


def write(folder: Path, to: Path | None = None) -> list[Path]:
    """Write `tables/{speed,crossover}.csv` and `tables/{layers,nets,controls}.{md,tex}` of `to`.

    From a campaign's folder, into itself if `to` is none; or from a published one, which holds the
    same rows.
    """
    table, out = rows_of(folder), (to or folder) / "tables"
    out.mkdir(parents=True, exist_ok=True)
    files = {"speed.csv": csv_of(table), "crossover.csv": csv_of(crossovers(table))}
    blocks = {"layers": layers(table), "nets": nets(table), "controls": controls(table)}
    for name, own in blocks.items():
        files |= {f"{name}.md": markdown(own), f"{name}.tex": latex(name, own)}
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in files]


def layers(table: pd.DataFrame) -> list[Block]:
    """A block per setting and version: each layer's best dense time, and gains by density."""
    own, blocks = table[table["dataset"] == "layers"], []
    twins = own[(own["role"] == "twin") & (own["dtype"] == "bf16")].to_dict("records")
    halves = {(row["arch"], row["batch"], row["threads"]): row["median_ms"] for row in twins}
    for key, part in own.groupby(SETTING, sort=True):
        base = denominators(part)
        for version, made in part[part["role"] == "candidate"].groupby("version", sort=True):
            densities = sorted(made["asked"].unique(), reverse=True)
            rows = []
            for arch, dense in base.items():
                cells = [
                    fastest(made[(made["arch"] == arch) & (made["asked"] == d)]) for d in densities
                ]
                floor = f"{100 * dense['of_floor']:.0f} ({dense['bound']})"
                low = halves.get((arch, *key[2:]))
                head = line(
                    arch, f"{dense['median_ms']:.3g}", dense["path"],
                    low and f"{low:.3g}", floor,
                )  # fmt: skip
                rows.append((*head, *cells))
            rows += [
                line(arch, "unsteady", *[""] * (3 + len(densities))) for arch in left_out(part)
            ]
            header = (
                "layer", "dense, ms", "by", "dense bf16, ms", "% of floor",
                *(f"{d:g}" for d in densities),
            )  # fmt: skip
            title = f"Layers, {version}, {setting(key)}"
            blocks.append(Block(title, header, (("", tuple(rows)),), NOTES, wide=True))
    return blocks


NOTES = (
    "Columns of densities: how many times faster than the fastest dense kernel the fastest path is "
    "(ratio of paired medians), and which; bold: its interval over three processes is above "
    f"{WIN}. Blank: no path takes the layer.",
    "dense bf16: the fastest dense kernel in bf16, which a sparse one in fp32 has to beat, too.",
    "% of floor: the dense layer's least possible time by the measured ceilings over its own, and "
    "what binds it, the memory's bandwidth without any cache: warm layers may be above 100.",
    "unsteady: the machine was too busy to time the dense layer, or these paths, which may be "
    "faster; measure it again.",
)


def fastest(rows: pd.DataFrame) -> Cell:
    """The best speed-up among paths for zeros, and those that might be faster.

    As `2.1 embedding_bag`, or `2.1 embedding_bag; unsteady: direct`.
    """
    own = rows[~rows["path"].isin(DENSE)]
    timed, lost = own[own["status"] == "ok"], unsteady(own)
    if not len(timed):
        return Cell(lost)
    best = timed.loc[timed["speedup"].idxmax()]
    said = [f"{best['speedup']:.2f} {best['path']}", *filter(None, [lost])]
    return Cell("; ".join(said), won(best))


def unsteady(rows: pd.DataFrame) -> str:
    """The paths that the machine was too busy to time: `unsteady: csr, direct`; or nothing."""
    lost = sorted(set(rows[rows["status"] == "unsteady"]["path"]))
    return f"unsteady: {', '.join(lost)}" if lost else ""


def won(row: Any) -> bool:
    """Whether a row's speed-up may be called one: its interval, over enough processes."""
    return bool(row["speedup_low"] > WIN and row["restarts"] >= RESTARTS)


def denominators(part: pd.DataFrame) -> dict[str, Any]:
    """Of one setting, the row of each subject's fastest way to run it unpruned, where steady."""
    twins = part[(part["role"] == "twin") & (part["status"] == "ok")]
    return {row["arch"]: row for row in twins.to_dict("records")}


def left_out(part: pd.DataFrame) -> list[str]:
    """Of one setting, the subjects whose unpruned net was measured, but never steadily."""
    return sorted(set(part["arch"]) - set(denominators(part)))


def nets(table: pd.DataFrame) -> list[Block]:
    """A block per setting: each version on its fastest path beside theory and all other paths."""
    own, blocks = table[table["dataset"] == "nets"], []
    for key, part in own.groupby(SETTING, sort=True):
        base, sections = denominators(part), []
        for arch, dense in base.items():
            rows, made = [], part[(part["arch"] == arch) & (part["role"] == "candidate")]
            timed = made[made["status"] == "ok"]
            for (version, asked), ways in timed.groupby(["version", "asked"], sort=True):
                order = ways.sort_values("speedup", ascending=False).to_dict("records")
                best, rest = order[0], order[1:]
                low, gain, high = (f"{best[f'speedup{end}']:.2f}" for end in ("_low", "", "_high"))
                lost = unsteady(made[(made["version"] == version) & (made["asked"] == asked)])
                others = ", ".join(f"{way['path']} {way['speedup']:.2f}" for way in rest)
                others = "; ".join(filter(None, [others, lost]))
                used = "" if best["exploited"] != best["exploited"] else f"{best['exploited']:.0%}"
                rows.append(
                    (
                        *line(version, f"{asked:g}", f"{best['theory']:.2f}"),
                        Cell(f"{gain} [{low}, {high}]", won(best)),
                        *line(f"{best['median_ms']:.3g}", best["path"], used, others, why_of(best)),
                    )
                )
            title = f"{arch}: dense {dense['median_ms']:.3g} ms, {dense['path']}"
            sections.append((title, tuple(rows)))
        sections += [(f"{arch}: dense unsteady, measure it again", ()) for arch in left_out(part)]
        header = (
            "version", "density", "theory", "measured", "ms", "fastest path", "exploited",
            "other paths", "why below half of theory",
        )  # fmt: skip
        notes = (
            "theory: multiply-adds of the dense net over those left. measured: times faster than "
            "the fastest dense net, with its interval over the processes that were timed; bold: "
            f"that is above {WIN}, over at least three. exploited: share of the dense net's "
            "multiply-adds in layers whose zeros that path exploits, or that are smaller. "
            "unsteady: the machine was too busy to time these, which may be faster.",
        )
        blocks.append(Block(f"Nets, {setting(key)}", header, tuple(sections), notes, wide=True))
    return blocks


def why_of(row: Any) -> str | None:
    """The sentence on a row, if there is one."""
    return row["why"] if isinstance(row["why"], str) else None


def controls(table: pd.DataFrame) -> list[Block]:
    """What must tie: A/A pairs of the fastest dense way, unpruned nets through each path."""
    twins = table[table["role"] == "twin"]
    rows = []
    for kind, own in (("A/A pair", twins), ("through a path", table[table["role"] == "control"])):
        for path, part in own[own["speedup"].notna()].groupby("path", sort=True):
            steady = part[part["status"] == "ok"]["speedup"]
            low, high = (f"{value:.3f}" for value in (steady.min(), steady.max()))
            rows.append(
                line(kind, path, len(part), len(steady), f"{steady.median():.3f}", low, high)
            )
    header = ("control", "path", "measured", "steady", "median", "least", "largest")
    note = "An unpruned net or layer against itself; 1.000 is right. Unsteady ones are not used."
    return [Block("Negative controls", header, (("", tuple(rows)),), (note,))]


def setting(key: Any) -> str:
    """`Some CPU, fp32, batch 8, 2 threads`."""
    device, dtype, batch, threads = key
    return f"{device}, {dtype}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
