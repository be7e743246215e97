"""Tables for people.

Right numbers, honest bold, reasons instead of gaps, and regenerated from tidy tables alone.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import stats, tables, tidy
from bench.collect import collect
from bench.tables.cells import TableError, cells
from bench.tables.render import escape
from tests import records


def make(folder: Path, **options) -> Path:
    records.write(folder, records.suite(**options))
    collect(folder)
    tables.write(folder / "tables", folder / "out")
    return folder


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("paper"), iterative=True)


def comparison(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "comparison.csv")


def test_a_cell_is_the_mean_over_the_runs_it_names(suite):
    made = {item.id: item for item in records.suite()}
    for row in comparison(suite).query("n > 0").to_dict("records"):
        top1 = [made[run].points[-1].test.top1 for run in row["runs"].split()]
        wanted = stats.mean(top1)
        assert (row["n"], row["top1"]) == (len(top1), pytest.approx(wanted.mean, rel=1e-5))
        assert row["top1_half"] == pytest.approx(wanted.half, rel=1e-4, abs=1e-9)


def test_every_variant_and_density_has_a_row(suite):
    table = comparison(suite)
    methods = table[table["block"] == "method"]
    assert len(methods) == 2 * len(records.SKILL) * len(records.DENSITIES)
    assert (table["block"] == "control").sum() == 2 * 4 * len(records.DENSITIES)
    assert (table["block"] == "dense").sum() == 2


def test_a_flipped_raw_number_changes_the_table(suite, tmp_path):
    made = records.suite()
    at = next(i for i, item in enumerate(made) if item.spec.variant == "saam")
    point = made[at].points[0]
    changed = point.model_copy(update={"test": records.accuracy(point.test.top1 - 0.05)})
    made[at] = made[at].model_copy(update={"points": (changed,)})
    records.write(tmp_path, made)
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    assert (tmp_path / "out" / "comparison.md").read_text() != (
        suite / "out" / "comparison.md"
    ).read_text()


def test_tables_regenerate_byte_for_byte_from_published_csv_alone(suite, tmp_path):
    for file in (suite / "tables").glob("*.csv"):
        shutil.copy(file, tmp_path)
    for file in tables.write(tmp_path, tmp_path / "out"):
        assert file.read_bytes() == (suite / "out" / file.name).read_bytes(), file.name


def test_a_lost_seed_lowers_n_and_leaves_its_reason(suite):
    row = (
        comparison(suite)
        .query("arch == 'resnet8' and variant == 'random' and target_density == 0.02")
        .iloc[0]
    )
    assert (row["n"], row["failed"]) == (2, 1)
    assert "layer collapse" in row["reason"]
    failures = pd.read_csv(suite / "out" / "failures.csv")
    assert "layer collapse" in failures.iloc[0]["reason"]
    assert "no kernel for LSTM" in set(failures["reason"])


def test_a_cell_whose_seeds_all_failed_stays_a_row(tmp_path):
    made = [
        item.model_copy(update={"status": "failed", "reason": "NaN loss", "points": ()})
        if item.spec.variant == "sap"
        else item
        for item in records.suite()
        if item.spec.like is None
    ]
    records.write(tmp_path, made)
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    lost = comparison(tmp_path).query("variant == 'sap'")
    assert len(lost) == 8
    assert (lost["n"] == 0).all()
    assert set(lost["reason"]) == {"NaN loss"}
    assert "| sap |  | failed | failed |" in (tmp_path / "out" / "comparison.md").read_text()


def test_a_suite_in_which_everything_failed_is_all_rows_with_reasons(tmp_path):
    lost = {"status": "failed", "reason": "NaN loss", "points": ()}
    records.write(
        tmp_path, [item.model_copy(update=lost) for item in records.suite(seeds=1)], latency=False
    )
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    table = comparison(tmp_path)
    assert len(table) == 2 * (1 + 9 * len(records.DENSITIES))
    assert set(table["reason"]) == {"NaN loss"}


def test_bold_is_the_best_and_its_ties_and_never_a_control(suite):
    table = comparison(suite)
    assert set(table.loc[table["best"], "block"]) == {"method"}
    for _, column in table[table["block"] == "method"].groupby(["arch", "target_density"]):
        assert column.loc[column["top1"].idxmax(), "best"]
        assert set(column.loc[column["best"], "group"]) == {"a"}
    assert not table.query("variant == 'random' and target_density == 0.2")["best"].any()


def test_one_seed_has_no_interval_and_no_winner(tmp_path):
    folder = make(tmp_path, seeds=1)
    table = comparison(folder)
    assert table["top1_half"].isna().all()
    assert not table["best"].any()
    text = (folder / "out" / "comparison.md").read_text()
    assert "**" not in text
    assert "one seed" in text
    assert set(pd.read_csv(folder / "out" / "controls.csv")["verdict"]) == {"untested"}


def test_a_measured_speedup_is_the_fastest_path_and_a_missing_one_has_a_reason(suite, tmp_path):
    row = (
        comparison(suite)
        .query("arch == 'resnet8' and variant == 'saam' and target_density == 0.02")
        .iloc[0]
    )
    assert row["latency_path"].startswith("gather")
    assert "batch 32" in row["latency_setting"]
    assert row["efficiency"] == pytest.approx(
        row["measured_speedup"] / row["theoretical_speedup"], rel=1e-4
    )
    assert row["latency_ms"] == pytest.approx(3.2 / row["measured_speedup"], rel=1e-4)
    records.write(tmp_path, records.suite(), latency=False)
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    bare = comparison(tmp_path)
    assert bare["measured_speedup"].isna().all()
    assert set(bare["latency_reason"]) == {"nothing measured for this data set and architecture"}


def test_controls_are_paired_with_the_run_they_copy(suite):
    table = pd.read_csv(suite / "out" / "controls.csv")
    made = {item.id: item for item in records.suite()}
    assert len(table) == 2 * 2 * 2 * len(records.DENSITIES)
    for row in table.to_dict("records"):
        pairs = list(zip(row["runs"].split(), row["control_runs"].split(), strict=True))
        assert all(made[control].spec.like == run for run, control in pairs)
        gaps = [
            made[run].points[-1].test.top1 - made[control].points[-1].test.top1
            for run, control in pairs
        ]
        assert row["difference"] == pytest.approx(np.mean(gaps), rel=1e-4, abs=1e-9)
    assert set(table.query("control == 'random' and target_density == 0.02")["verdict"]) == {
        "better"
    }


def test_a_curve_is_read_off_in_log_density_and_marked(paper):
    row = (
        comparison(paper)
        .query("variant == 'lottery_ticket' and arch == 'lstm' and target_density == 0.1")
        .iloc[0]
    )
    runs = [
        item
        for item in records.suite(iterative=True)
        if item.spec.method == "lottery_ticket" and item.spec.arch == "lstm"
    ]
    wanted = [
        stats.interpolate([p.density for p in run.points], [p.test.top1 for p in run.points], 0.1)
        for run in runs
    ]
    assert row["interpolated"]
    assert row["top1"] == pytest.approx(np.mean(wanted), rel=1e-5)
    assert "interpolated" in row["latency_reason"]
    assert re.search(r"\| lottery_ticket \|.*~", (paper / "out" / "comparison.md").read_text())


def test_a_curve_is_never_continued_beyond_its_end(paper):
    reached = comparison(paper).query("variant == 'lottery_ticket'")["target_density"]
    assert reached.min() > 0.02
    assert 0.05 in set(reached)


def test_two_runs_in_one_cell_are_refused(suite):
    points = tidy.read(suite / "tables", "points")
    with pytest.raises(TableError, match="give each its own variant"):
        cells(pd.concat([points, points[points["variant"] == "sap"].assign(run="twin")]))


def test_latex_is_balanced_and_escapes_what_it_must(suite):
    assert escape("a_b & 50 % ± 1") == r"a\_b \& 50 \% $\pm$ 1"
    for name in tables.NAMES:
        text = (suite / "out" / f"{name}.tex").read_text()
        assert len(re.findall(r"\\begin\{", text)) == len(re.findall(r"\\end\{", text)) > 0
        assert text.count(r"\toprule") == text.count(r"\bottomrule") > 0
        assert text.isascii()
        for block in re.findall(
            r"\\begin\{tabular\}\{l(r*)\}(.*?)\\end\{tabular\}", text, re.DOTALL
        ):
            rows = [
                line
                for line in block[1].splitlines()
                if line.endswith(r"\\") and "multicolumn" not in line
            ]
            assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(block[0])}


def test_footnotes_say_what_was_tested_and_what_the_interval_is(suite):
    text = (suite / "out" / "comparison.md").read_text()
    for words in (
        "360 test images",
        "95 % Student-t interval",
        "n = 3",
        "equal tier",
        "Dense nets and controls do not compete",
    ):
        assert words in text, words
