"""What a campaign measured as one table of rows, and what is read off it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench import kernels

if TYPE_CHECKING:
    import pandas as pd

CELL = ["run", "device", "dtype", "batch", "threads"]
SETTING = ["device_name", "dtype", "batch", "threads"]
DENSE = tuple(name for name in kernels.names() if not kernels.load(name).zeros)
"""Paths that multiply zeros like any number."""

CACHED = ("digest", "settings", "point")
SENSORS = ("peak_mb", "energy_mj", "clock_mhz", "power_w", "temperature_c", "throttle", "cold_ms")


class Crossover(NamedTuple):
    """Where a path begins to pay: at `density` it is as fast as the best dense net.

    `verdict`: `found`; `always` or `never`, over the densities that were measured, of which
    `density` is then the largest or the least.
    """

    density: float
    verdict: str


def tidy(folder: Path) -> pd.DataFrame:
    """All rows of a campaign's folder, each with what is known of its version.

    `version` and `asked` (the density) from its label, `density`, `macs`, `effective_macs` and
    `bits` as counted on the version, `theory` (multiply-adds of the dense one over those left),
    `why` less than half of it is reached; for layers `floor_ms`, `bound` and `of_floor` (`floor_ms`
    over `median_ms`); for nets on the CPU `exploited`, the share of the dense net's multiply-adds
    in layers whose zeros are exploited, or which are smaller.
    """
    import pandas as pd

    parts = []
    for path in sorted((folder / "latency").glob("*.csv")):
        facts = pd.read_csv(folder / "versions" / path.name)
        rows = pd.read_csv(path).merge(facts, on=CELL, how="left")
        whole = facts.loc[facts["run"] == "dense", "macs"].iloc[0]
        rows = rows.assign(theory=whole / rows["effective_macs"], why=None, exploited=None)
        if (reasons := folder / "reasons" / path.name).is_file():
            keys = ["run", "path", "device", "dtype", "batch", "threads"]
            rows = rows.drop(columns=["why", "exploited"])
            rows = rows.merge(pd.read_csv(reasons), on=keys, how="left")
        parts.append(rows)
    found = pd.concat(parts, ignore_index=True)
    found["of_floor"] = found["floor_ms"] / found["median_ms"]
    found["why"] = found["why"].fillna(lost_in_layers(found))
    label = found["run"].str.rsplit("@", n=1)
    found["version"] = label.str[0]
    found["asked"] = pd.to_numeric(label.str[1], errors="coerce").fillna(1.0)
    return found.sort_values(
        ["dataset", "arch", *SETTING, "role", "version", "asked", "path"], kind="stable"
    ).reset_index(drop=True)


def lost_in_layers(rows: pd.DataFrame) -> pd.Series:
    """Why a layer reaches less than half of its theoretical speed-up; empty for other rows.

    What its multiply-adds would take is the dense layer's time over the theory; memory traffic is
    what its floor is above that, the kernel itself what its time is above both.
    """
    import pandas as pd

    short = rows["role"].eq("candidate") & rows["status"].eq("ok") & rows["dataset"].eq("layers")
    short &= rows["speedup"] < rows["theory"] / 2
    ideal = rows["median_ms"] * rows["speedup"] / rows["theory"]
    lost = (rows["median_ms"] - ideal).clip(lower=0)
    traffic = (rows["floor_ms"] - ideal).clip(lower=0, upper=lost)  # caches beat the memory's floor
    kernel = lost - traffic
    said = pd.Series(pd.NA, index=rows.index, dtype="object")
    for row in rows.index[short]:
        largest = "memory traffic" if traffic[row] > kernel[row] else "the kernel itself"
        share = max(traffic[row], kernel[row]) / (traffic[row] + kernel[row])
        if rows.loc[row, "path"] in DENSE:
            said[row] = f"{rows.loc[row, 'path']} multiplies zeros like any number"
        else:
            said[row] = f"{100 * share:.0f} % of the time lost: {largest}"
    return said


def rows_of(folder: Path) -> pd.DataFrame:
    """The rows of `speed.csv`, in the digits that it holds: all tables are made of these.

    Without what only the cache of measurements needs, and what no sensor here told.
    """
    import pandas as pd

    if not (folder / "latency").is_dir():
        return pd.read_csv(folder / "tables" / "speed.csv")
    table = tidy(folder)
    empty = [name for name in SENSORS if table[name].isna().all()]
    return pd.read_csv(StringIO(csv_of(table.drop(columns=[*CACHED, *empty]))))


def csv_of(table: pd.DataFrame) -> str:
    """As text, five digits, far below any noise of a time."""
    return table.to_csv(index=False, float_format="%.5g", lineterminator="\n")


def crossover(densities: list[float], speedups: list[float]) -> Crossover:
    """The density below which a path is faster than dense, between those that were measured.

    The speed-up is taken to be a power of the density between two neighbours. Where it crosses 1
    more than once, the sparsest crossing counts: below it the path pays throughout.
    """
    order = np.argsort(densities)
    at, gains = np.log(np.asarray(densities)[order]), np.log(np.asarray(speedups)[order])
    if (gains <= 0).all() or gains[0] <= 0:
        return Crossover(min(densities), "never")
    slower = np.flatnonzero(gains <= 0)
    if not len(slower):
        return Crossover(max(densities), "always")
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
