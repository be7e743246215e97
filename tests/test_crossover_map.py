"""The map of crossovers: each cell is what was read off the speed-ups of a layer and a path."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.figures import style
from bench.speed import figures

SETTING = {"device_name": "Some CPU", "dtype": "fp32", "batch": 1, "threads": 2}
GAINS = {
    ("conv_a", "csr", "random"): (0.5, 2.0),
    ("conv_a", "direct", "random"): (1.5, 3.0),
    ("conv_b", "csr", "random"): (0.2, 0.9),
    ("conv_b", "direct", "random"): (0.5, 4.0),
}
"""Layer, path and version -> speed-ups at densities 0.4 and 0.1."""


def table(gains: dict[tuple[str, str, str], tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        SETTING | {"dataset": "layers", "role": "candidate", "status": "ok", "arch": arch,
                   "path": path, "version": version, "asked": asked, "speedup": speedup}
        for (arch, path, version), pair in gains.items()
        for asked, speedup in zip((0.4, 0.1), pair, strict=True)
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    def draw(gains):
        kept = []
        monkeypatch.setattr(style, "save", lambda made, out, name: kept.append(made) or [])
        figures.crossover(table(gains), tmp_path)
        kept[0].draw_without_rendering()
        return kept[0]

    return draw


def test_a_cell_says_the_density_or_the_last_that_was_measured(drawn):
    axes = drawn(GAINS).axes[0]
    layers = [label.get_text() for label in axes.get_yticklabels()]
    paths = [label.get_text() for label in axes.get_xticklabels()]
    said = iter(text.get_text() for text in axes.texts)
    cells = {(layer, path): next(said) for layer in layers for path in paths}
    assert cells == {
        ("conv_a", "csr"): "20",  # gains 1/2 and 2: half-way between the logarithms of 0.4 and 0.1
        ("conv_a", "direct"): "> 40",
        ("conv_b", "csr"): "< 10",
        ("conv_b", "direct"): "25",
    }


def test_versions_of_one_pattern_have_columns_of_their_own(drawn):
    both = {
        ("conv_a", "csr", version): (0.5, 2.0)
        for version in ("random(pattern=2:4)", "magnitude(pattern=2:4)")
    }
    axes = drawn(both).axes[0]
    assert len(axes.get_xticklabels()) == 2
    assert [text.get_text() for text in axes.texts] == ["20", "20"]
