"""The rows of the page as compact JSON: columns instead of records, repeated texts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.figures.style import COLOURS
from bench.page.columns import columns
from bench.page.suites import PAIRED, Suite
from bench.tables.cells import GROUP
from bench.tables.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["suite", *GROUP]
PLACES = (*PLACE, "measure", "lower", "samples", "setting", "protocol", "runs")
ROW = (
    "place", "variant", "target_density", "block", "method", "family", "pattern", "n", "value",
    "value_half", "value_before", "group", "best", "seeds_needed", "delta_dense",
    "delta_dense_half", "delta_dense_p", "interpolated", "density", "bits", "compression",
    "effective_macs", "theoretical_speedup", "weight_bits", "activation_bits", "bop_reduction",
    "measured_speedup", "speedup_low", "speedup_high", "latency_ms", "latency_path", "efficiency",
    "other_paths", "energy_mj", "latency_reason", "worst_class_drop", "ece", "epochs", "seconds",
    "status", "reason",
)  # fmt: skip
RUN = ("run", "seed", "status", "git_commit", "device", "torch", "started")
END = ("place", "variant", "control", "density", "n", *PAIRED)
BLOCKS = {"dense": 0, "method": 1, "control": 2}
DIGITS = 6
"""Significant ones of every number, as in `comparison.csv`."""


def content(suites: Sequence[Suite]) -> dict[str, Any]:
    """Everything that the scripts read."""
    import pandas as pd

    places, rows, ends, runs = (
        pd.concat([getattr(suite, name) for suite in suites], ignore_index=True)
        for name in ("places", "rows", "ends", "runs")
    )
    rows, ends = ordered(placed(rows, places), places), placed(ends, places)
    controls = sorted(c.removesuffix("_verdict") for c in rows if c.endswith("_verdict"))
    wanted = [*ROW, *(f"{control}_{name}" for control in controls for name in PAIRED)]
    shown = [m for m in MEASURES.values() if m.column in set(places["measure"])]
    return {
        "columns": [asdict(column) for column in columns(rows, controls, shown)],
        "controls": controls,
        "measures": {m.column: asdict(m) for m in shown},
        "colours": COLOURS,
        "opens": opens(rows, places),
        "places": packed(places[list(PLACES)]),
        "runs": packed(runs[list(RUN)]),
        "rows": packed(rows[[name for name in wanted if name in rows]])
        | {"seeds": numbered(rows, runs)},
        "ends": packed(ends[list(END)]),
    }


def placed(table: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """The table with `place`, the number of each row's line in `places`."""
    at = {key: number for number, key in enumerate(keys(places))}
    return table.assign(place=[at[key] for key in keys(table)])


def keys(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The place of each row as a tuple."""
    return list(table[PLACE].itertuples(index=False, name=None))


def ordered(rows: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """How the table opens: by place, then densest first, then best first."""
    sign = places["lower"].map({True: -1, False: 1})
    order = rows.assign(
        order=rows["block"].map(BLOCKS), score=rows["value"] * sign.loc[rows["place"]].to_numpy()
    )
    by = ["place", "target_density", "order", "score", "variant"]
    order = order.sort_values(by, ascending=[True, False, True, False, True], kind="stable")
    return rows.loc[order.index].reset_index(drop=True)


def opens(rows: pd.DataFrame, places: pd.DataFrame) -> dict[str, str]:
    """The filters that a page opens with: of several suites the largest, since none compare."""
    if places["suite"].nunique() < 2:
        return {}
    return {"suite": str(rows["suite"].value_counts(sort=False).idxmax())}


def numbered(rows: pd.DataFrame, runs: pd.DataFrame) -> list[list[list[float | None]]]:
    """For each row its seeds as (number of the run in `runs`, value)."""
    at = {key: number for number, key in enumerate(zip(runs["suite"], runs["run"], strict=True))}
    return [
        [[at[suite, run], plain(value)] for run, value in seeds]
        for suite, seeds in zip(rows["suite"], rows["seeds"], strict=True)
    ]


def packed(table: pd.DataFrame) -> dict[str, Any]:
    """Each column as a list; one whose texts repeat as the distinct `texts` and where they are."""
    found: dict[str, Any] = {}
    for name in table:
        values = [plain(value) for value in table[name]]
        texts = sorted({value for value in values if isinstance(value, str)})
        if texts and 2 * len(texts) < len(values):
            at = {None: None} | {text: number for number, text in enumerate(texts)}
            found[str(name)] = {"texts": texts, "at": [at[value] for value in values]}
        else:
            found[str(name)] = values
    return found


def plain(value: Any) -> Any:
    """The value as JSON has it: a text, a flag, a number of `DIGITS` digits, or null."""
    import numpy as np
    import pandas as pd

    if isinstance(value, str) or value is None:
        return value
    if pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    rounded = float(f"{float(value):.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded
