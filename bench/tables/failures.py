"""What did not work, and why: failed runs and execution paths that could not be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.tables.render import Block, line

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "what", "dataset", "arch", "variant", "target_density", "seed", "status", "reason", "count",
    "run",
)  # fmt: skip


def rows(runs: pd.DataFrame, latency: pd.DataFrame) -> pd.DataFrame:
    """One row per failed run, and one per net, path and reason without a time (`count` models)."""
    import pandas as pd

    lost = runs[runs["status"] != "ok"].assign(what="run", count=1)
    slow = latency[latency["status"] != "ok"].drop_duplicates(
        ["path", "run", "point", "status", "reason"]
    )
    slow = slow.groupby(
        ["path", "dataset", "arch", "status", "reason"], dropna=False, as_index=False
    )["run"].agg(count="size", run=lambda names: " ".join(sorted(set(names))))
    slow = slow.assign(
        what="latency of " + slow["path"], variant=None, target_density=float("nan"), seed=None
    )
    parts = [part[list(COLUMNS)] for part in (lost, slow) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def blocks(table: pd.DataFrame) -> list[Block]:
    """One block; says so when nothing failed."""
    header = ("what", "data set", "net", "variant", "density", "seed", "status", "reason", "count")
    lines = []
    for row in table.to_dict("records"):
        density = (
            None if row["target_density"] != row["target_density"] else f"{row['target_density']:g}"
        )
        seed = None if row["seed"] is None or row["seed"] != row["seed"] else int(row["seed"])
        place = (row["what"], row["dataset"], row["arch"], row["variant"], density, seed)
        lines.append(line(*place, row["status"], row["reason"], row["count"]))
    note = "Nothing failed." if not lines else "Failed runs are in no mean of any table."
    return [Block("Failures", header, (("", tuple(lines)),), (note,))]
