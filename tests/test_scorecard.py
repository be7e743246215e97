"""The scorecard: table, figure and command say what the records say, of every claim."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench import claims, tidy
from bench.__main__ import main
from bench.claims import figure, table, wording
from bench.claims.number import Number, Region
from bench.claims.schema import read
from bench.claims.scorecard import Row, score
from bench.claims.verdict import VERDICTS, Check, settle, verdict
from tests.claim_tables import GAP, PUBLISHED, SEEDS, entry, publish, run_of, runs


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return score(PUBLISHED, read())


def test_every_claim_has_a_verdict_a_source_and_runs_that_exist(rows):
    there = {
        suite: set(tidy.read(PUBLISHED / suite / "tables", "runs")["run"])
        for suite in {check.suite for row in rows for check in row.checks}
    }
    for row in rows:
        assert row.verdict in VERDICTS
        assert row.claim.source
        assert bool(row.checks) == bool(row.claim.measure)
        for check in row.checks:
            assert check.runs
            assert set(check.runs) <= there[check.suite], row.claim.id


def test_activation_density_is_judged_on_its_last_net_inside_the_allowed_drop():
    """What the claim's note says of the point before the end."""
    tables = PUBLISHED / "fashion" / "tables"
    stages = tidy.read(tables, "history").query("event == 'stage'")
    points = tidy.read(tables, "points").query("variant == 'activation_density'")
    assert set(stages["run"]) == set(points["run"])
    for _, run in stages.sort_values("stage").groupby("run"):
        ended = run["ended"].tolist()
        assert "drop" in ended[-1]
        assert not any("drop" in why for why in ended[:-1])
        assert not any("saturated" in why for why in ended)


def test_the_table_says_all_of_it_and_latex_can_print_it(rows):
    frame, screen = table.frame(rows), table.screen(rows)
    assert set(frame["id"]) == {row.claim.id for row in rows}
    assert len(frame) == sum(max(1, len(row.checks)) for row in rows)
    assert frame["verdict"].notna().all()
    assert frame.loc[frame["check"].notna(), "runs"].str.len().gt(0).all()
    for row in rows:
        assert row.claim.claim in screen
        assert row.claim.reported in screen
    (total,) = [line for line in screen.splitlines() if line.startswith("| sum |")]
    sources, baselines, all_, mechanisms, questions = map(int, total.split("|")[2:-1])
    assert sources + baselines == all_
    assert all_ + mechanisms + questions == len(rows)
    assert mechanisms == sum(row.claim.mechanism for row in rows)
    from bench.tables.render import latex

    assert latex("scorecard", table.print_blocks(rows)).isascii()


def test_every_column_is_documented(rows):
    readme = (PUBLISHED / "scorecard" / "README.md").read_text()
    cells = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in cell.split("`")[1::2]] == list(table.frame(rows))


def test_a_noisy_row_says_how_many_seeds_would_tell():
    near, far = (Number(x, -1.0, 3.0, 3, 0.5, 1.0, gap=x, sd=1.0) for x in (0.5, 0.1))
    region = Region(low=0)
    checks = [Check("", "", "", "a", "b", "points", region, one, ()) for one in (far, near)]
    open_ = settle(checks)
    row = Row("sources", "dpf", read()[0].claim, open_, verdict(open_))
    assert wording.said(row) == f"within noise ({open_[1].seeds_needed} seeds)"
    assert open_[1].seeds_needed < open_[0].seeds_needed


def test_the_figure_draws_decided_intervals_beside_the_bound(rows):
    for row in rows:
        for check in row.checks:
            if check.number.lack:
                continue
            centre, low, high = figure.beyond(check)
            assert low - 1e-9 <= centre <= high + 1e-9
            if check.outcome == "yes":
                assert low >= 0, row.claim.id
            if check.outcome == "no":
                assert high <= 0, row.claim.id


def test_the_figure_is_the_same_bytes_each_time(rows, tmp_path):
    some = [row for row in rows if row.method in ("dpp", "djpq", "rigl")]
    one, two = (figure.draw(some, tmp_path / part, "scorecard") for part in "ab")
    assert [file.name for file in one] == ["scorecard.pdf", "scorecard.png"]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_the_command_writes_all_or_says_what_is_missing(tmp_path, monkeypatch, capsys):
    own = entry(tmp_path, GAP | {"suite": "mine", "variant": "a", "densities": [0.1]})
    monkeypatch.setattr(claims, "read", lambda: own)
    monkeypatch.chdir(tmp_path)  # the command also writes the README of the folder that it runs in
    assert main(["claims", "--published", str(tmp_path)]) == 1
    assert "claims.yaml: one: measure.0.suite" in capsys.readouterr().err
    publish(tmp_path, [*runs("a", {"top1": (0.9,) * 3}), *runs("b", {"top1": (0.8,) * 3})])
    assert main(["claims", "--published", str(tmp_path)]) == 0
    made = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert made == {f"scorecard.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    found = pd.read_csv(tmp_path / "scorecard" / "tables" / "scorecard.csv").iloc[0]
    assert (found["verdict"], found["estimate"], found["n"]) == ("reproduced", 10, 3)
    assert found["runs"].split() == [run_of(v, seed, 0.1) for v in "ab" for seed in SEEDS]
