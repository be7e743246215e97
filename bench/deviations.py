"""Every deviation of a method from its paper, out of the methods' docstrings, as one table."""

from __future__ import annotations

import re
import sys

from bench.method import load, names

HEAD = """# Deviations from the papers

Written by `python -m bench deviations` from the docstrings in `methods/`; a test keeps it in step.

| method | source | deviation, and why |
| --- | --- | --- |
"""


def stated(docstring: str) -> list[str]:
    """The items under "Deviations from the paper", each on one line; or what stands there instead.

    Raises `ValueError` for a docstring without the heading.
    """
    _, heading, text = docstring.partition("Deviations from the paper")
    if not heading:
        raise ValueError('the docstring has no "Deviations from the paper"')
    items = re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)
    if not items:  # a sentence that says that there are none
        items = [text.lstrip(" :").split("\n\n")[0]]
    return [" ".join(item.split()) for item in items]


def table() -> str:
    """The table of all methods, in Markdown."""
    rows = []
    for name in names():
        kind = load(name)
        for item in stated(sys.modules[kind.__module__].__doc__ or ""):
            text = item.replace("|", "\\|")
            rows.append(f"| {name} | {kind.citation} | {text} |\n")
    return HEAD + "".join(rows)
