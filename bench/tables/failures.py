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

RUN = r",? [\w.]+-[\w.:@]+-[\w.:@]+-s\d+-[0-9a-f]{8}\b,?"
"""A run's id, inside the reason of another run."""


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
    """One block; says so when nothing failed.

    A line for each variant and reason, whatever the densities, seeds and runs it is about.
    """
    header = (
        "what",
        "data set",
        "net",
        "variant",
        "densities",
        "seeds",
        "status",
        "reason",
        "count",
    )
    reasons = table["reason"].str.replace(RUN, "", regex=True)
    keys = ["what", "dataset", "arch", "variant", "status"]
    lines = []
    for place, group in table.groupby([*keys, reasons], dropna=False, sort=False):
        densities = sorted(group["target_density"].dropna().unique(), reverse=True)
        seeds = sorted(int(seed) for seed in group["seed"].dropna().unique())
        what, dataset, arch, variant, status, reason = (
            None if part != part else part for part in place
        )
        lines.append(
            line(
                what, dataset, arch, variant, ", ".join(f"{d:g}" for d in densities) or None,
                ", ".join(map(str, seeds)) or None, status, reason, group["count"].sum(),
            )
        )  # fmt: skip
    note = "Nothing failed." if not lines else "Failed runs are in no mean of any table."
    return [Block("Failures", header, (("", tuple(lines)),), (note,))]
