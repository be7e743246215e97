"""Every cell can be traced: the runs behind it, their values, seeds, commits and machines."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.explain import ExplainError, explain
from tests import records
from tests.records import comparison, make


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("suite"))


def values(text: str) -> dict[str, float]:
    """Run -> value, of the lines that tell of runs."""
    return {run: float(value) for run, value in re.findall(r"^  (\S+) [=~] (\S+)$", text, re.M)}


def test_the_values_of_the_runs_make_the_cell(suite):
    table = comparison(suite)
    for variant, density in (("magnitude", 0.1), ("sap", 0.2), ("lottery_ticket", 0.1)):
        row = table.query(
            "arch == 'resnet8' and variant == @variant and target_density == @density"
        ).iloc[0]
        text = explain(suite, "comparison", f"digits/resnet8/{variant}@{density:g}", "top1")
        found = values(text)
        assert set(found) == set(row["runs"].split())
        assert np.mean(list(found.values())) == pytest.approx(row["top1"], rel=1e-5)
        for seed in range(3):
            assert f"seed {seed}, " in text
        assert text.count("0" * 40) == 3  # commits
        assert text.count("Some CPU") == 3


def test_a_measured_speedup_names_its_timings_and_those_of_the_other_paths(suite):
    row = comparison(suite).query(
        "arch == 'resnet8' and variant == 'saam' and target_density == 0.02"
    )
    text = explain(suite, "comparison", "digits/resnet8/saam@0.02", "measured_speedup")
    assert "measured:" in text
    assert f"path {row.iloc[0]['latency_path'].split()[0]}" in text
    assert "batch 32" in text
    assert "batch 1," not in text  # the table's setting alone


def test_a_control_stands_beside_the_runs_that_it_copies(suite):
    made = {item.id: item for item in records.suite()}
    text = explain(suite, "controls", "digits/resnet8/saam@0.1:random", "difference")
    runs, control = text.split("control_runs:")
    of = {made[run].spec.like for run in made if run in control}
    assert of == {run for run in made if run in runs}


@pytest.mark.parametrize(
    ("table", "row", "column", "said"),
    [
        ("comparisons", "saam@0.1", "top1", "there are comparison, controls"),
        ("comparison", "digits/lstm/sam@0.1", "top1", "did you mean digits/lstm/saam@0.1"),
        ("comparison", "saam@0.1", "top1", "2 rows 'saam@0.1': digits/lstm/saam@0.1"),
        ("comparison", "digits/lstm/saam@0.1", "topp1", "did you mean top1"),
    ],
)
def test_what_is_not_there_is_one_message(suite, table, row, column, said):
    with pytest.raises(ExplainError, match=re.escape(said)):
        explain(suite, table, row, column)


def test_on_the_command_line(suite, capsys):
    assert main(["explain", str(suite), "cost", "digits/lstm/random", "seconds"]) == 0
    assert "random-lstm-digits" in capsys.readouterr().out
