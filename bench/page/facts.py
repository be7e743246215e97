"""The head of the page: under what the numbers were made, and where they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.page.suites import Suite
from bench.tables.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8
"""Digits of a commit that are shown."""


def facts(suites: Sequence[Suite]) -> dict[str, Any]:
    """Title, a line for each fact, and a line for each place."""
    import pandas as pd

    places = pd.concat([suite.places for suite in suites], ignore_index=True)
    names = [suite.name for suite in suites]
    return {
        "title": f"Pruning benchmark: {names[0] if len(names) == 1 else f'{len(names)} suites'}",
        "lines": lines(places),
        "places": places.to_dict("records"),
        "samples": {m.column: m.samples for m in MEASURES.values()},
    }


def lines(places: pd.DataFrame) -> dict[str, str]:
    """What stands above the table, by its name."""
    failed = f" ({places['failed'].sum()} failed)" if places["failed"].any() else ""
    settings = sorted(set(places["setting"].dropna()))
    return {
        "runs": f"{places['count'].sum()}{failed}",
        "latest run": str(places["latest"].max())[:10],
        "protocol": "version " + ", ".join(sorted(set(places["protocol"]))),
        "trained on": "; ".join(union(places["devices"])),
        "timed on": "; ".join(settings) or "nothing was timed",
        "torch": ", ".join(union(places["torch"])),
        "commits": ", ".join(map(short, union(places["commits"]))),
        "tested domain": domain(places),
    }


def domain(places: pd.DataFrame) -> str:
    """Where the numbers hold."""
    if len(places) > 1:
        return f"the {len(places)} pairs of data and net listed below, and nothing beyond"
    place = places.iloc[0]
    samples = next(m.samples for m in MEASURES.values() if m.column == place["measure"])
    return (
        f"{place['dataset']} ({place['samples']} {samples}), {place['arch']}, "
        f"{place['tier']} training budget; nothing beyond"
    )


def union(column: pd.Series) -> list[str]:
    """The distinct texts in a column of tuples, sorted."""
    return sorted({text for texts in column for text in texts})


def short(commit: str) -> str:
    """The first digits of a commit, and whether files differed from it."""
    digits, mark, changes = commit.partition("+")
    return digits[:SHOWN] + mark + changes
