"""Tables for people: right numbers, honest bold, reasons instead of gaps, all from tidy tables."""

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
from tests.records import comparison, make


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("paper"), tier="paper")


def test_a_cell_is_the_mean_over_the_runs_it_names(suite):
    made = {item.id: item for item in records.suite()}
    for row in comparison(suite).query("n > 0").to_dict("records"):
        if made[row["runs"].split()[0]].spec.densities:
            continue
        top1 = [made[run].points[-1].test.top1 for run in row["runs"].split()]
        wanted = stats.mean(top1)
        assert (row["n"], row["top1"]) == (len(top1), pytest.approx(wanted.mean, rel=1e-5))
        assert row["top1_half"] == pytest.approx(wanted.half, rel=1e-4, abs=1e-9)


def test_every_variant_and_density_has_a_row(suite):
    table = comparison(suite)
    methods = table[table["block"] == "method"]
    variants = {**records.SKILL, **records.CURVES}
    assert len(methods) == 2 * len(variants) * len(records.DENSITIES)
    copied = ("saam", *records.CURVES)
    assert (table["block"] == "control").sum() == 2 * 2 * len(copied) * len(records.DENSITIES)
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
        if item.spec.variant == "saam"
        else item
        for item in records.suite()
        if item.spec.like is None
    ]
    records.write(tmp_path, made)
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    lost = comparison(tmp_path).query("variant == 'saam'")
    assert len(lost) == 8
    assert (lost["n"] == 0).all()
    assert set(lost["reason"]) == {"NaN loss"}
    assert "| saam |  | failed | failed |" in (tmp_path / "out" / "comparison.md").read_text()


def test_a_suite_in_which_everything_failed_is_all_rows_with_reasons(tmp_path):
    lost = {"status": "failed", "reason": "NaN loss", "points": ()}
    records.write(
        tmp_path, [item.model_copy(update=lost) for item in records.suite(seeds=1)], latency=False
    )
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    table = comparison(tmp_path)
    assert len(table) == 2 * (1 + 12 * len(records.DENSITIES))
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
    reasons = bare.query("n > 0 and not interpolated")["latency_reason"]
    assert set(reasons) == {"nothing measured for this data set and architecture"}


def test_controls_are_paired_with_the_run_they_copy(suite):
    table = pd.read_csv(suite / "out" / "controls.csv")
    made = {item.id: item for item in records.suite()}
    assert len(table.query("variant == 'saam'")) == 2 * 2 * len(records.DENSITIES)
    for row in table.query("variant == 'saam'").to_dict("records"):
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


def of_curve(folder: Path, variant: str, arch: str) -> pd.DataFrame:
    """Rows of one curve in the comparison, by requested density."""
    table = comparison(folder).query(f"variant == '{variant}' and arch == '{arch}'")
    return table.set_index("target_density")


def curve_runs(variant: str, arch: str) -> dict[int, records.Record]:
    """Made-up runs of a variant on one net, by seed."""
    made = [item for item in records.suite() if item.spec.arch == arch]
    return {item.spec.seed: item for item in made if item.spec.variant == variant}


def test_a_curves_point_at_a_requested_density_stands_for_it_unchanged(suite):
    rows = of_curve(suite, "lottery_ticket", "lstm")
    for target in records.DENSITIES:
        hit = [
            point.test.top1
            for run in curve_runs("lottery_ticket", "lstm").values()
            for point in run.points
            if abs(point.density / target - 1) < 0.02
        ]
        assert len(hit) == rows.loc[target, "n"] == 3
        assert rows.loc[target, "top1"] == pytest.approx(np.mean(hit), rel=1e-5)
        assert not rows.loc[target, "interpolated"]
        assert rows.loc[target, "latency_path"].startswith("dense")


def test_between_two_points_a_curve_is_read_off_in_log_density_and_marked(suite):
    row = of_curve(suite, "sap", "resnet8").loc[0.2]
    values = []
    for run in curve_runs("sap", "resnet8").values():
        above = min((p for p in run.points if p.density > 0.2), key=lambda p: p.density)
        below = max((p for p in run.points if p.density < 0.2), key=lambda p: p.density)
        share = np.log(above.density / 0.2) / np.log(above.density / below.density)
        values.append(above.test.top1 + share * (below.test.top1 - above.test.top1))
    assert row["interpolated"]
    assert row["n"] == 3
    assert row["top1"] == pytest.approx(np.mean(values), rel=1e-5)
    assert "interpolated" in row["latency_reason"]
    assert re.search(r"\| sap \|.*~", (suite / "out" / "comparison.md").read_text())


def test_a_curve_is_never_continued_beyond_its_ends_and_says_where_they_are(suite):
    rows = of_curve(suite, "sap", "lstm")
    assert (rows["n"] == 0).all()
    assert (rows["failed"] == 0).all()
    assert (rows["unreached"] == 3).all()
    assert set(rows["reason"]) == {"its densities run from 0.84 to 0.418"}
    partial = of_curve(suite, "sap", "resnet8").loc[0.05]
    assert (partial["n"], partial["unreached"]) == (2, 1)
    assert partial["reason"] == "its densities run from 0.63 to 0.0992"


def test_not_reached_is_no_failure(suite):
    for text in ((suite / "out" / f"comparison.{kind}").read_text() for kind in ("md", "tex")):
        assert text.count("not reached") >= 2 * len(records.DENSITIES)
        assert "sap: its densities run from 0.84 to 0.418" in text
        assert "1 failed runs" in text
    assert "sap" not in set(pd.read_csv(suite / "out" / "failures.csv")["variant"])
    runs = tidy.read(suite / "tables", "runs")
    assert set(runs.loc[runs["status"] == "failed", "variant"]) == {"random"}


def test_a_failed_curve_is_one_failed_run_and_a_failed_row_at_each_density(tmp_path):
    made = [item for item in records.suite(seeds=1) if item.spec.arch == "lstm"]
    lost = {"status": "failed", "reason": "NaN loss", "points": ()}
    made = [
        item.model_copy(update=lost) if item.spec.method == "lottery_ticket" else item
        for item in made
    ]
    records.write(tmp_path, made)
    collect(tmp_path)
    tables.write(tmp_path / "tables", tmp_path / "out")
    rows = of_curve(tmp_path, "lottery_ticket", "lstm")
    assert set(rows.index) == set(records.DENSITIES)
    assert (rows["failed"] == 1).all()
    assert set(rows["reason"]) == {"NaN loss"}
    assert "1 failed runs" in (tmp_path / "out" / "comparison.md").read_text()


def test_curves_are_cells_in_both_tiers_alike(suite, paper):
    keys = ["arch", "variant", "target_density", "n", "unreached", "interpolated", "block"]
    one, other = comparison(suite)[keys], comparison(paper)[keys]
    pd.testing.assert_frame_equal(one, other)


def test_a_curve_that_reaches_nothing_is_paired_with_its_controls_at_its_end(suite):
    table = pd.read_csv(suite / "out" / "controls.csv")
    rows = table.query("variant == 'sap' and arch == 'lstm'")
    assert rows["target_density"].isna().all()
    assert set(rows["control"]) == {"random", "magnitude"}
    for row in rows.to_dict("records"):
        own, copies = curve_runs("sap", "lstm"), curve_runs(f"{row['control']}(like=sap)", "lstm")
        gaps = [own[s].points[-1].test.top1 - copies[s].points[-1].test.top1 for s in range(3)]
        assert row["density"] == pytest.approx(own[0].points[-1].density, rel=1e-5)
        assert row["difference"] == pytest.approx(np.mean(gaps), rel=1e-4, abs=1e-9)
    assert table.query("variant == 'lottery_ticket'")["target_density"].notna().all()


def test_a_control_of_a_curve_is_paired_at_each_density_that_both_reach(suite):
    table = pd.read_csv(suite / "out" / "controls.csv")
    ticket = table.query("variant == 'lottery_ticket' and arch == 'lstm' and control == 'random'")
    own = curve_runs("lottery_ticket", "lstm")
    copies = curve_runs("random(like=lottery_ticket)", "lstm")
    assert set(ticket["target_density"]) == set(records.DENSITIES)
    for row in ticket.to_dict("records"):
        gaps = [
            next(
                p for p in own[seed].points if abs(p.density / row["target_density"] - 1) < 0.02
            ).test.top1
            - next(
                p for p in copies[seed].points if abs(p.density / row["target_density"] - 1) < 0.02
            ).test.top1
            for seed in range(3)
        ]
        assert row["difference"] == pytest.approx(np.mean(gaps), rel=1e-4, abs=1e-9)
        assert not row["interpolated"]
    assert table.query("variant == 'sap' and target_density == 0.1")["interpolated"].all()


def test_two_runs_in_one_cell_are_refused(suite):
    points = tidy.read(suite / "tables", "points")
    with pytest.raises(TableError, match="give each its own variant"):
        cells(pd.concat([points, points[points["variant"] == "saam"].assign(run="twin")]))


def test_a_wide_block_is_scaled_to_the_page_and_names_its_package(suite):
    text = (suite / "out" / "comparison.tex").read_text()
    assert text.count(r"\begin{table*}") == text.count(r"\resizebox{\textwidth}") == 4
    assert "graphicx" in text.splitlines()[0]
    assert "graphicx" not in (suite / "out" / "cost.tex").read_text()


def test_latex_is_balanced_and_escapes_what_it_must(suite):
    assert escape("a_b & 50 % ± 1") == r"a\_b \& 50 \% $\pm$ 1"
    for name in ("comparison", "controls", "cost", "failures"):
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
        "random and smaller_dense are methods and do",
    ):
        assert words in text, words
