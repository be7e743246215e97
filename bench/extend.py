"""Results that grow: further runs join published ones without running those again.

It holds only where both were made alike: whatever both sides ran must be the same model, bit for
bit, and at least the dense net of every new run must be among it. Times are never compared over
the seam: a speed-up stands beside the dense net that was measured in its own session.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy

if TYPE_CHECKING:
    import pandas as pd


class ExtensionError(ValueError):
    """Two results that must not stand in one table; the message says why."""


def extend(published: Path, further: Path, out: Path) -> Path:
    """Join the tidy tables in the folders `published` and `further`; `out` with tables and figures.

    Of a run that both hold the published rows stay.

    Raises:
        ExtensionError: a shared run's model differs, a new run's dense net is not shared, or the
            protocols or the machines that latency was measured on differ.
    """
    from bench import figures, tables
    from bench.tables import measures

    check(tidy.read(published, "points"), tidy.read(further, "points"))
    same(tidy.read(published, "latency"), tidy.read(further, "latency"), "device_name")
    (out / "tables").mkdir(parents=True)
    held = [name for name in tidy.FIELD_SORT if (published / f"{name}.csv").exists()]
    for name in (*tidy.SORT, *held):
        both = joined(tidy.read(published, name), tidy.read(further, name))
        tidy.write(both, out / "tables", name)
    tables.write(out / "tables", out / "tables")
    runs = tidy.read(out / "tables", "runs")
    for name in figures.names(runs["method"], measures.tasks(runs)):
        figures.draw(name, out / "tables", out / "figures")
    return out


def joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of `old`, then those of `new` whose run it lacks; of no run, those of `old`."""
    import pandas as pd

    if "run" not in old:
        return old
    added = new[~new["run"].isin(set(old["run"]))]
    parts = [part.dropna(axis="columns", how="all") for part in (old, added) if len(part)]
    columns = [*old.columns, *(c for c in new.columns if c not in old)]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns) if parts else old


def check(old: pd.DataFrame, new: pd.DataFrame) -> None:
    """Raise `ExtensionError` unless the shared runs agree and carry all the others."""
    same(old, new, "protocol")
    key = ["run", "point"]
    both = old[[*key, "digest"]].merge(new[[*key, "digest"]], on=key, suffixes=("", "_new"))
    if len(odd := both[both["digest"] != both["digest_new"]]):
        raise ExtensionError(
            f"{', '.join(odd['run'].unique())}: trained again, it is another model than the "
            "published one; run the whole suite on one machine instead"
        )
    starts = set(new["dense"].dropna()) | set(new.loc[new["method"] == "dense", "run"])
    if lacking := sorted(starts - set(both["run"])):
        raise ExtensionError(
            f"the published results do not hold {', '.join(lacking)}, "
            "which the new runs start from or are compared to"
        )


def same(old: pd.DataFrame, new: pd.DataFrame, column: str) -> None:
    """Raise `ExtensionError` if the values of `column` are others in `new` than in `old`."""
    before, after = (set(table[column].dropna().unique()) for table in (old, new))
    if before and after and before != after:
        raise ExtensionError(
            f"{column} is {sorted(after)}, but {sorted(before)} in what is published"
        )
