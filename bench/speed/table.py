"""The tidy table of a campaign, what is read off it, and its tables for people."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench import kernels
from bench.tables.render import Block, Cell, latex, line, markdown

if TYPE_CHECKING:
    import pandas as pd

CELL = ["run", "device", "dtype", "batch", "threads"]
SETTING = ["device_name", "dtype", "batch", "threads"]
DENSE = tuple(name for name in kernels.names() if not kernels.load(name).zeros)
"""Paths that multiply zeros like any number."""
WIN = 1.03
"""What the whole interval of a speed-up has to be above, to be called one."""
RESTARTS = 3
"""And over how many processes."""


class Crossover(NamedTuple):
    """Where a path begins to pay: at `density` it is as fast as the best dense net.

    `verdict`: `found`; `always` or `never`, over the densities that were measured.
    """

    density: float
    verdict: str


def tidy(folder: Path) -> pd.DataFrame:
    """All rows of a campaign's folder, each with what is known of its version.

    `version` and `asked` (the density) from its label, `density`, `macs`, `effective_macs` and
    `bits` as counted on the version, `theory` (multiply-adds of the dense one over those left),
    `why` a net reaches less than half of it, and for layers `floor_ms`, `bound` and `of_floor` =
    `floor_ms` / `median_ms`.
    """
    import pandas as pd

    parts = []
    for path in sorted((folder / "latency").glob("*.csv")):
        facts = pd.read_csv(folder / "versions" / path.name)
        rows = pd.read_csv(path).merge(facts, on=CELL, how="left")
        whole = facts.loc[facts["run"] == "dense", "macs"].iloc[0]
        rows = rows.assign(theory=whole / rows["effective_macs"], why=None)
        if (reasons := folder / "reasons" / path.name).is_file():
            keys = ["run", "path", "device", "dtype", "batch", "threads"]
            rows = rows.drop(columns="why").merge(pd.read_csv(reasons), on=keys, how="left")
        parts.append(rows)
    found = pd.concat(parts, ignore_index=True)
    found["of_floor"] = found["floor_ms"] / found["median_ms"]
    label = found["run"].str.rsplit("@", n=1)
    found["version"] = label.str[0]
    found["asked"] = pd.to_numeric(label.str[1], errors="coerce").fillna(1.0)
    return found.sort_values(
        ["dataset", "arch", *SETTING, "role", "version", "asked", "path"], kind="stable"
    ).reset_index(drop=True)


def crossover(densities: list[float], speedups: list[float]) -> Crossover:
    """The density below which a path is faster than dense, between those that were measured.

    The speed-up is taken to be a power of the density between two neighbours. Where it crosses 1
    more than once, the sparsest crossing counts: below it the path pays throughout.
    """
    order = np.argsort(densities)
    at, gains = np.log(np.asarray(densities)[order]), np.log(np.asarray(speedups)[order])
    if (gains <= 0).all() or gains[0] <= 0:
        return Crossover(float("nan"), "never")
    slower = np.flatnonzero(gains <= 0)
    if not len(slower):
        return Crossover(float("nan"), "always")
    after = slower[0]
    share = gains[after - 1] / (gains[after - 1] - gains[after])
    return Crossover(float(np.exp(at[after - 1] + share * (at[after] - at[after - 1]))), "found")


def crossovers(table: pd.DataFrame) -> pd.DataFrame:
    """One row per layer, version, path and setting: `density` and `verdict` as in `crossover`."""
    import pandas as pd

    timed = table[(table["role"] == "candidate") & (table["status"] == "ok")]
    timed = timed[(timed["dataset"] == "layers") & ~timed["path"].isin(DENSE)]
    rows = []
    for key, own in timed.groupby(["arch", "version", "path", *SETTING], sort=True):
        found = crossover(own["asked"].tolist(), own["speedup"].tolist())
        names = ["arch", "version", "path", *SETTING]
        rows.append(dict(zip(names, key, strict=True)) | found._asdict() | {"n": len(own)})
    columns = ["arch", "version", "path", *SETTING, *Crossover._fields, "n"]
    return pd.DataFrame(rows, columns=columns)


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


def rows_of(folder: Path) -> pd.DataFrame:
    """The rows of `speed.csv`, in the digits that it holds: all tables are made of these.

    Without columns that are empty or that only the cache of measurements needs.
    """
    import pandas as pd

    if not (folder / "latency").is_dir():
        return pd.read_csv(folder / "tables" / "speed.csv")
    table = tidy(folder).drop(columns=["digest", "settings", "point"])
    return pd.read_csv(StringIO(csv_of(table.dropna(axis="columns", how="all"))))


def csv_of(table: pd.DataFrame) -> str:
    """As text, five digits, far below any noise of a time."""
    return table.to_csv(index=False, float_format="%.5g", lineterminator="\n")


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
    f"{WIN}. Blank: no path takes the layer, or the machine was unsteady.",
    "dense bf16: the fastest dense kernel in bf16, which a sparse one in fp32 has to beat, too.",
    "% of floor: the dense layer's least possible time by the measured ceilings over its own, and "
    "what binds it, the memory's bandwidth without any cache: warm layers may be above 100.",
    "unsteady: the machine was too busy to time its dense layer; measure it again.",
)


def fastest(rows: pd.DataFrame) -> Cell:
    """The best speed-up among paths for zeros: `2.1 embedding_bag`."""
    timed = rows[(rows["status"] == "ok") & ~rows["path"].isin(DENSE)]
    if not len(timed):
        return Cell("")
    best = timed.loc[timed["speedup"].idxmax()]
    return Cell(f"{best['speedup']:.2f} {best['path']}", won(best))


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
                others = ", ".join(f"{way['path']} {way['speedup']:.2f}" for way in rest)
                why = best["why"] if best["speedup"] < best["theory"] / 2 else None
                rows.append(
                    (
                        *line(version, f"{asked:g}", f"{best['theory']:.2f}"),
                        Cell(f"{gain} [{low}, {high}]", won(best)),
                        *line(f"{best['median_ms']:.3g}", best["path"], others, why),
                    )
                )
            title = f"{arch}: dense {dense['median_ms']:.3g} ms, {dense['path']}"
            sections.append((title, tuple(rows)))
        sections += [(f"{arch}: dense unsteady, measure it again", ()) for arch in left_out(part)]
        header = (
            "version", "density", "theory", "measured", "ms", "fastest path", "other paths",
            "why below half of theory",
        )  # fmt: skip
        notes = (
            "theory: multiply-adds of the dense net over those left. measured: times faster than "
            "the fastest dense net, with its interval over the processes that were timed; bold: "
            f"that is above {WIN}, over at least three.",
        )
        blocks.append(Block(f"Nets, {setting(key)}", header, tuple(sections), notes, wide=True))
    return blocks


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
