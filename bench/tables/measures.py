"""What a task's tables and figures compare, and how they name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measure:
    """A fraction of `points` and `validation`, shown in per cent."""

    column: str
    """In `points`, and the stem of what tables make of it (`top1_low`)."""
    short: str
    """As a word in a sentence; `name` begins one."""
    title: str
    kind: str
    axis: str
    validation: str
    note: str
    """The first words of a table's notes."""
    samples: str
    lower: bool = False
    """Whether less is better; 1 - it is then the score."""

    @property
    def sign(self) -> int:
        """Of a difference that is an advantage."""
        return -1 if self.lower else 1

    @property
    def name(self) -> str:
        """`short` at the head of a sentence."""
        return self.short[0].upper() + self.short[1:]

    def resolution(self, samples: float) -> float:
        """The step of the values: an accuracy counts samples, an error is a real number."""
        return 0.0 if self.lower else 1 / samples


MEASURES = {
    "classification": Measure(
        column="top1",
        short="top-1",
        title="Top-1 accuracy",
        kind="Accuracy",
        axis="top-1 accuracy, %",
        validation="validation accuracy, %",
        note="Mean test accuracy in per cent",
        samples="test images",
    ),
    "field": Measure(
        column="relative_l2",
        short="relative L2 error",
        title="Relative L2 error of one step",
        kind="Error",
        axis="relative L2 error, %",
        validation="validation error, %",
        note="Mean test error in per cent of the field's norm, one step ahead (less is better),",
        samples="test frames",
        lower=True,
    ),
}


def tasks(table: pd.DataFrame) -> tuple[str, ...]:
    """The tasks of the rows of `runs` or `points`; suites of classifiers have no such column."""
    if "task" not in table or not len(table):
        return ("classification",)
    return tuple(name for name in MEASURES if (table["task"] == name).any())


def measure(part: pd.DataFrame) -> Measure:
    """That of rows of `runs` or `points` of one data set."""
    return MEASURES[tasks(part)[0]]


def spelt(columns: Iterable[str], points: pd.DataFrame) -> list[str]:
    """`columns` with a star in each place of a measure: those of the tasks of `points` there."""
    stems = [MEASURES[task].column for task in tasks(points)]
    return [c.replace("*", s) for c in columns for s in (stems if "*" in c else stems[:1])]


def named(rows: pd.DataFrame) -> Measure:
    """That of rows of a table for people, told by the column that they fill."""
    there = [m for m in MEASURES.values() if m.column in rows]
    return next((m for m in there if rows[m.column].notna().any()), there[0])


def measured(points: pd.DataFrame) -> pd.DataFrame:
    """`points` with what tables compare, whatever the task.

    `value`, `value_before`, `value_dense`: the measure itself; `score`: of it, higher being better.
    """
    table = points.copy()
    field = points["task"].eq("field").fillna(False).astype(bool) if "task" in points else None
    for end in ("", "_before", "_dense"):
        value = points[f"top1{end}"].astype("float64")
        if field is not None:
            value = value.mask(field, points[f"relative_l2{end}"].astype("float64"))
        table[f"value{end}"] = value
    value = table["value"]
    table["score"] = value if field is None else value.mask(field, 1 - value)
    return table
