"""Which variants share a panel: a family's, since nobody tells 29 colours apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.figures import style

if TYPE_CHECKING:
    import pandas as pd

MOST = len(style.COLOURS)
"""Variants in colour in one panel; the others of its place are grey there."""
PAGE = 40
"""Panels that fit on the pages of a figure."""


class Facet(NamedTuple):
    """A panel of a place: the variants in colour, and what they have in common."""

    title: str
    variants: tuple[str, ...]


def facets(part: pd.DataFrame, places: int = 1) -> list[Facet]:
    """The panels of one place; `part` has `block`, `variant`, `family` and `score`.

    One for all where the colours suffice, else one for each family (two or more where it is large).
    With so many `places` that those would fill a book, one panel shows the best on average.
    """
    methods = part[part["block"] == "method"]
    variants = tuple(sorted(set(methods["variant"])))
    if len(variants) <= MOST:
        return [Facet("", variants)]
    found = [
        Facet(str(family), chunk)
        for family, own in methods.groupby("family", sort=True)
        for chunk in chunks(sorted(set(own["variant"])))
    ]
    if len(found) * places <= PAGE:
        return found
    best = methods.groupby("variant")["score"].mean().sort_values(ascending=False, kind="stable")
    return [Facet(f"the best {MOST} on average", tuple(sorted(best.index[:MOST])))]


def chunks(variants: list[str]) -> list[tuple[str, ...]]:
    """At most `MOST` in each, as equal in number as can be."""
    count = -(-len(variants) // MOST)
    size = -(-len(variants) // count)
    return [tuple(variants[i : i + size]) for i in range(0, len(variants), size)]
