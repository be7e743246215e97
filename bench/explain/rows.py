"""Which row of a table is meant: the names of its rows, and what to say where none fits."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Row = dict[Any, Any]


class ExplainError(ValueError):
    """A table, row or column that is not there; the message says what is."""


def pick(frame: pd.DataFrame, row: str, table: str) -> Row:
    """The one row that `row` names."""
    rows = frame.to_dict("records")
    names = numbered([label(one) for one in rows])
    # a variant's name may hold a slash or a colon, so ends of names are compared, not parts
    fit = [
        i for i, name in enumerate(names)
        if name == row or name.endswith(f"/{row}") or name.startswith(f"{row}:")
        or f"/{row}:" in name
    ] or [i for i, one in enumerate(rows) if one["variant"] == row]  # fmt: skip
    if len(fit) == 1:
        return rows[fit[0]]
    if not fit:
        there = f"; there are {some(names)}" if names else "; it is empty"
        hint = near(row, [*(name.split("/", 2)[-1] for name in names), *names])
        raise ExplainError(f"{table} has no row {row!r}{hint}{there}")
    raise ExplainError(f"{table} has {len(fit)} rows {row!r}: {some([names[i] for i in fit])}")


def label(row: Row) -> str:
    """`<data set>/<architecture>/<variant>@<density>:<control>`, as far as the table has them."""
    variant = row["variant"] if present(row["variant"]) else row["what"]
    name = "/".join([*(str(row[key]) for key in ("dataset", "arch") if key in row), variant])
    name += f"@{row['target_density']:g}" if present(row.get("target_density")) else ""
    name += f":{row['control']}" if "control" in row else ""
    return name + (f":seed {int(row['seed'])}" if present(row.get("seed")) else "")


def numbered(names: list[str]) -> list[str]:
    """The names, with `:1`, `:2`, ... behind those that are there several times."""
    return [
        f"{name}:{names[: i + 1].count(name)}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def near(wanted: str, names: list[str]) -> str:
    """A hint at what was meant."""
    close = difflib.get_close_matches(wanted, names, 3)
    return f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""


def present(value: Any) -> bool:
    """Whether a cell holds something."""
    return value is not None and str(value) not in ("", "<NA>", "nan", "None")
