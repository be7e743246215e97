"""What each variant costs: the ledger of epochs, samples and seconds, by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.tables.cells import GROUP
from bench.tables.render import Block, line

if TYPE_CHECKING:
    import pandas as pd

PHASES = ("pretrain", "score", "prune", "finetune")
MEANS = ("epochs", "samples", *(f"seconds_{phase}" for phase in PHASES), "seconds", "peak_memory")


def rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per (dataset, arch, tier, variant, device): means over finished runs.

    `seconds` is wall time. A run that yields a curve counts as one, with all that it trained.
    """
    import pandas as pd

    done = runs[runs["status"] == "ok"].copy()
    keys = [*GROUP, "variant", "device"]
    if not len(done):
        return pd.DataFrame(columns=[*keys, "n", *MEANS, "seconds_sum"])
    done["device"] = done["device"].fillna("")
    grouped = done.groupby(keys, sort=True)
    table = grouped[list(MEANS)].mean()
    table.insert(0, "n", grouped.size())
    table["seconds_sum"] = grouped["seconds"].sum()
    return table.reset_index()


def blocks(table: pd.DataFrame) -> list[Block]:
    """One block per (dataset, arch, tier)."""
    spent = tuple(f"{phase} s" for phase in PHASES)
    header = ("variant", "runs", "epochs", "samples", *spent, "wall s", "peak MiB")
    found = []
    for (dataset, arch, tier), part in table.groupby(GROUP, sort=True):
        lines = []
        for row in part.to_dict("records"):
            seconds = [f"{row[f'seconds_{phase}']:.2f}" for phase in PHASES]
            lines.append(
                line(
                    row["variant"],
                    row["n"],
                    f"{row['epochs']:.3g}",
                    f"{row['samples']:.0f}",
                    *seconds,
                    f"{row['seconds']:.2f}",
                    f"{row['peak_memory'] / 2**20:.0f}",
                )
            )
        devices = ", ".join(sorted(set(part["device"]))) or "an unrecorded device"
        note = (
            f"Means per run on {devices}. Seconds of the device by phase of the ledger; wall: the "
            "whole run, loading and measuring included. A method that starts from the shared dense "
            "net does not pay for that net's training. One run of an iterative method, or of its "
            "controls, serves all densities; one of any other method serves a single density. Runs "
            "beside others take longer, and are not told apart: equal epochs are equal work, "
            "whatever the seconds say."
        )
        found.append(
            Block(f"Cost, {dataset}, {arch}, {tier} tier", header, (("", tuple(lines)),), (note,))
        )
    return found
