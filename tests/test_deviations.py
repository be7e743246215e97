"""The table of deviations: every method's own words, in step with its docstring."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.deviations import stated, table
from bench.method import names

FILE = Path(__file__).parent.parent / "results" / "published" / "deviations.md"


def test_the_published_table_is_in_step_with_the_docstrings():
    assert FILE.read_text() == table(), "run: python -m bench deviations"


def test_every_method_has_a_row():
    rows = [line.split(" | ") for line in table().splitlines() if line.startswith("| ")]
    assert {row[0].removeprefix("| ") for row in rows[2:]} == set(names())


def test_items_are_read_to_their_end_and_nothing_after_them():
    text = "X.\n\nDeviations from the paper (all ours):\n- one\n  and on\n- two, `a | b`\n\nMore."
    assert stated(text) == ["one and on", "two, `a | b`"]
    assert stated("X.\n\nDeviations from the paper: none. It\nends.\n\nMore.") == ["none. It ends."]
    with pytest.raises(ValueError, match="Deviations"):
        stated("X.")
