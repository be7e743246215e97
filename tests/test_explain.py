"""Every cell can be traced: the runs behind it, their values, seeds, commits and machines."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import tidy
from bench.__main__ import main
from bench.explain import ExplainError, explain
from bench.tables import made
from tests import records
from tests.records import comparison, make

PUBLISHED = Path(__file__).parents[1] / "results" / "published"


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("suite"))


def values(text: str) -> dict[str, float]:
    """Run -> value, of the lines that tell of runs."""
    return {run: float(value) for run, value in re.findall(r"^  (\S+) [=~] (\S+)$", text, re.M)}


def parts(text: str) -> dict[str, dict[str, float]]:
    """Heading -> the runs below it and their values."""
    headed = re.findall(r"^(\S.*):\n((?:  .*\n?)+)", text, re.M)
    return {heading: values(lines) for heading, lines in headed}


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


@pytest.mark.parametrize("column", ["delta_dense", "delta_dense_half", "delta_dense_p"])
def test_a_difference_to_the_dense_net_names_the_dense_runs(suite, column):
    row = comparison(suite).query(
        "arch == 'lstm' and variant == 'lottery_ticket' and target_density == 0.1"
    )
    found = parts(explain(suite, "comparison", "digits/lstm/lottery_ticket@0.1", column))
    assert set(found) == {"runs", "dense"}
    own, dense = (np.mean(list(found[name].values())) for name in ("runs", "dense"))
    assert own - dense == pytest.approx(row.iloc[0]["delta_dense"], rel=1e-4)


def test_what_is_said_of_controls_names_their_runs(suite):
    made = {item.id: item for item in records.suite()}
    found = parts(explain(suite, "comparison", "digits/resnet8/saam@0.1", "controls"))
    own = set(found.pop("runs"))
    assert set(found) == {"control random", "control magnitude"}
    for runs in found.values():
        assert {made[run].spec.like for run in runs} == own


@pytest.mark.parametrize("column", ["group", "best", "seeds_needed"])
def test_a_rank_names_the_leaders(suite, column):
    table = comparison(suite).query("arch == 'resnet8' and target_density == 0.1")
    best = table[table["best"]]
    found = parts(explain(suite, "comparison", "digits/resnet8/random@0.1", column))
    assert len(best)
    assert "random" not in set(best["variant"])
    for row in best.to_dict("records"):
        runs = found.pop(f"rival {row['variant']}, in group a")
        assert set(runs) == set(row["runs"].split())
        assert np.mean(list(runs.values())) == pytest.approx(row["top1"], rel=1e-5)
    assert set(found) == {"runs"}


@pytest.mark.parametrize("name", ["lottery_ticket@0.1", "sap"])  # sap: at the ends of its curves
def test_a_verdict_on_a_control_shows_each_pair(suite, name):
    variant, _, density = name.partition("@")
    table = made(suite / "tables")["controls"][0].query("arch == 'lstm' and control == 'random'")
    there = table["target_density"] == 0.1 if density else table["target_density"].isna()
    row = table[there & (table["variant"] == variant)]
    text = explain(suite, "controls", f"digits/lstm/{name}:random", "verdict")
    pairs = re.findall(r"^  seed (\d): (\S+) - (\S+) = (\S+)$", text, re.M)
    assert [int(seed) for seed, *_ in pairs] == [0, 1, 2]
    differences = [float(difference) for *_, difference in pairs]
    assert np.mean(differences) == pytest.approx(row.iloc[0]["difference"], rel=1e-4)
    assert all(float(a) - float(b) == pytest.approx(float(d), abs=1e-5) for _, a, b, d in pairs)


def test_seconds_are_those_of_all_runs(suite):
    row = made(suite / "tables")["cost"][0].query("arch == 'lstm' and variant == 'saam'").iloc[0]
    found = parts(explain(suite, "cost", "digits/lstm/saam", "seconds_sum"))["runs"]
    assert len(found) == row["n"]
    assert sum(found.values()) == pytest.approx(row["seconds_sum"])


def test_a_failure_is_named_by_its_variant_where_that_is_unique(suite):
    text = explain(suite, "failures", "random", "reason")
    assert "digits/resnet8/random@0.02:seed 1" in text
    assert "layer collapse" in text
    assert text.count("status failed") == 1
    with pytest.raises(ExplainError, match=r"no row 'nonsense'.* there are .*random@0\.02"):
        explain(suite, "failures", "nonsense", "reason")


@pytest.mark.skipif(not (PUBLISHED / "tasks").exists(), reason="no suite of tasks is published")
def test_a_rank_over_tasks_names_the_runs_of_every_task():
    folder = PUBLISHED / "tasks"
    wanted = made(folder / "tables")["comparison"][0].query("variant == 'rigl'")
    found = parts(explain(folder, "aggregate", "rigl", "mean_rank"))
    assert len(found) == len(wanted) > 5
    for row in wanted.to_dict("records"):
        runs = found[f"{row['dataset']}/{row['arch']}/rigl@{row['target_density']:g}"]
        assert set(runs) == set(row["runs"].split())
        assert np.mean(list(runs.values())) == pytest.approx(row["top1"], rel=1e-5)


@pytest.mark.skipif(not (PUBLISHED / "scorecard").exists(), reason="no scorecard is published")
def test_a_claim_names_the_runs_of_its_checks_or_why_there_are_none():
    card = pd.read_csv(PUBLISHED / "scorecard" / "tables" / "scorecard.csv")
    checks = card[card["id"] == card.loc[card["runs"].notna(), "id"].iloc[0]]
    text = explain(PUBLISHED / "scorecard", "scorecard", checks.iloc[0]["id"], "estimate")
    for check in checks.to_dict("records"):
        part = text.split(f"{check['check']}, {check['place']}")[1].split("\n\n")[0]
        runs = tidy.read(PUBLISHED / check["suite"] / "tables", "runs").set_index("run")
        assert re.findall(r"^  (\S+)$", part, re.M) == check["runs"].split()
        assert all(runs.loc[run, "git_commit"] in part for run in check["runs"].split())
    silent = card[card["runs"].isna()].iloc[0]
    text = explain(PUBLISHED / "scorecard", "scorecard", silent["id"], "verdict")
    assert silent["note"] in text
    with pytest.raises(ExplainError, match=f"did you mean {checks.iloc[0]['id']}"):
        explain(PUBLISHED / "scorecard", "scorecard", checks.iloc[0]["id"] + "x", "verdict")


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
