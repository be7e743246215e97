"""What a test reads off an open page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def column(view: Any, key: str) -> list[str]:
    """The texts of a column, from the top, place by place."""
    number = view.eval_on_selector(f"th[data-key={key}]", "head => head.cellIndex")
    return view.eval_on_selector_all(
        "#rows tbody:not([hidden]) tr:not(.place)",
        f"lines => lines.map(line => line.cells[{number}].textContent)",
    )


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0].lstrip("~")) for text in texts if text[0] in "~-+0123456789"]


def count(view: Any) -> int:
    return int(view.inner_text("#count").split()[0])


@contextmanager
def changed(view: Any) -> Iterator[None]:
    """Until what is done within has reached the address."""
    before = view.url
    yield
    view.wait_for_function("before => location.href !== before", arg=before)


def head(key: str) -> str:
    return f"th[data-key={key}] button"
