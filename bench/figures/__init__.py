"""Figures from tidy tables: one script per figure, each with `draw(tables, out)`.

A file here that says `NAME = "..."` is a figure, found by itself. One that also says
`METHODS = ("...",)` shows the inside of those methods and belongs to suites that run one of them.
Style and marks are shared. Importing this package does not import matplotlib; drawing does.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def names(methods: Iterable[str] | None = None) -> tuple[str, ...]:
    """Every figure there is; with `methods`, those that a suite of these methods can fill."""
    ran = None if methods is None else set(methods)
    return tuple(
        name for name, shown in sorted(_found().items()) if ran is None or not shown or ran & shown
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
def _found() -> dict[str, frozenset[str]]:
    """Figure -> the methods whose inside it shows; read from the top of every file here."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        said = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
        }
        if "NAME" in said:
            shown = ast.literal_eval(said["METHODS"]) if "METHODS" in said else ()
            found[ast.literal_eval(said["NAME"])] = frozenset(shown)
    return found
