"""Figures from tidy tables: one script per figure, each with `draw(tables, out)`.

A file here that says `NAME = "..."` is a figure, found by itself. One that also says
`METHODS = ("...",)` shows the inside of those methods and belongs to suites that run one of them;
one that says `TASKS = ("...",)` to suites whose data sets ask for one of those tasks.
Style and marks are shared. Importing this package does not import matplotlib; drawing does.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def names(
    methods: Iterable[str] | None = None, tasks: Iterable[str] = ("classification",)
) -> tuple[str, ...]:
    """Every figure there is; with `methods`, those that a suite of these and `tasks` can fill."""
    if methods is None:
        return tuple(sorted(_found()))
    had = {"METHODS": set(methods), "TASKS": set(tasks)}
    return tuple(
        name
        for name, said in sorted(_found().items())
        if all(had[key] & set(wanted) for key, wanted in said.items())
    )


def draw(name: str, tables_folder: Path, out_folder: Path) -> list[Path]:
    """Draw one figure from the tidy tables in `tables_folder`; its PDF and PNG in `out_folder`.

    Raises `ValueError` for a name that is not in `names()`, `bench.tidy.TidyError` when a table is
    missing.
    """
    if name not in _found():
        raise ValueError(f"no figure {name!r}; there are: {', '.join(names())}")
    return importlib.import_module(f"bench.figures.{name}").draw(tables_folder, out_folder)


@cache
def _found() -> dict[str, dict[str, tuple[str, ...]]]:
    """Figure -> its METHODS and TASKS, if it says any; read from the top of every file here."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        said = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
        }
        if "NAME" in said:
            found[ast.literal_eval(said["NAME"])] = {
                key: ast.literal_eval(said[key]) for key in ("METHODS", "TASKS") if key in said
            }
    return found
