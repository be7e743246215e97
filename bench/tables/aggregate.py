"""Methods over all tasks of a suite: mean ranks, with what cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.across import ENOUGH, Ranking, ranking
from bench.tables.measures import named
from bench.tables.render import Block, line
from bench.tables.texts import letter

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("tier", "variant", "mean_rank", "low", "high", "group", "tasks", "p", "critical")


def rankings(comparison: pd.DataFrame) -> dict[str, tuple[Ranking | None, list[str], list[str]]]:
    """Tier -> the ranking of the variants that every cell has, the tasks, and the others.

    None where there are too few tasks, or fewer than two variants in each of their cells.
    """
    found = {}
    for tier, part in comparison[comparison["block"] == "method"].groupby("tier", sort=True):
        scores = scored(part)
        whole = scores.dropna(axis="columns")
        tasks = sorted({f"{dataset}/{arch}" for dataset, arch, _ in scores.index})
        left = sorted(set(scores) - set(whole))
        made = None
        parts = [own.to_numpy() for _, own in whole.groupby(level=[0, 1], sort=True)]
        alike = len({len(own) for own in parts}) == 1  # a suite has the same densities everywhere
        if len(tasks) >= ENOUGH and whole.shape[1] > 1 and alike:
            made = ranking(tuple(whole), np.stack(parts))
        found[str(tier)] = (made, tasks, left)
    return found


def scored(part: pd.DataFrame) -> pd.DataFrame:
    """(dataset, arch, density) x variant: mean scores, higher being better."""
    import pandas as pd

    tables = []
    for _, own in part.groupby(["dataset", "arch"], sort=True):
        what = named(own)
        tables.append(own.assign(score=what.sign * own[what.column]))
    every = pd.concat(tables)
    return every.pivot(
        index=["dataset", "arch", "target_density"], columns="variant", values="score"
    ).sort_index()


def rows(comparison: pd.DataFrame) -> pd.DataFrame:
    """A row per tier and variant, best first; `group`: letters of the runs of ties it is in."""
    import pandas as pd

    table: list[dict[str, Any]] = []
    for tier, (made, _, _) in rankings(comparison).items():
        if made is None:
            continue
        for i, name in enumerate(made.names):
            table.append({
                "tier": tier, "variant": name, "mean_rank": made.means[i], "low": made.low[i],
                "high": made.high[i], "group": letters(made, i), "tasks": made.tasks,
                "p": made.p, "critical": made.critical,
            })  # fmt: skip
    return pd.DataFrame(table, columns=list(COLUMNS))


def blocks(comparison: pd.DataFrame) -> list[Block]:
    """One block per tier; without rows where the tasks are too few to say anything over them."""
    return [block(tier, *found) for tier, found in rankings(comparison).items()]


def block(tier: str, made: Ranking | None, tasks: list[str], left: list[str]) -> Block:
    """Mean ranks, best first, and what they rest on."""
    header = ("variant", "mean rank", "interval", "not told apart")
    title = f"Over all tasks, {tier} tier"
    if made is None:
        note = (
            f"Nothing is said over tasks: that takes {ENOUGH} tasks or more (data sets with an "
            "architecture) that share two methods and their densities; here "
            f"{len(tasks)}: {', '.join(tasks)}."
        )
        return Block(title, header, (), (note,))
    table = []
    for i, name in enumerate(made.names):
        interval = f"{made.low[i]:.2f} to {made.high[i]:.2f}"
        table.append(line(name, f"{made.means[i]:.2f}", interval, letters(made, i)))
    notes = [
        "Rank 1 is best; within a task and density by mean score, averaged over a task's densities "
        f"and then over {made.tasks} tasks: {', '.join(tasks)}.",
        "Interval: 95 % percentile bootstrap over tasks; of few tasks it is too narrow (it covers "
        "about 70 % of cases with three, 83 % with five, 93 % with fifteen), and tasks that share "
        "data or a net are less evidence than their number says. Not told apart: variants that "
        f"share a letter (Nemenyi, 5 %: mean ranks closer than {made.critical:.2f}; Friedman's p "
        f"{made.p:.2g}).",
    ]
    if left:
        notes.append(f"Not ranked, since a task or density lacks them: {', '.join(left)}.")
    return Block(title, header, (("", tuple(table)),), tuple(notes))


def letters(made: Ranking, place: int) -> str:
    """The runs of ties that the variant at `place` is in."""
    runs = enumerate(made.ties())
    return "".join(letter(k) for k, (first, last) in runs if first <= place <= last)
