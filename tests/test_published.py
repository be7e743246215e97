"""Published numbers are what the code makes of the published tidy tables."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from bench import claims, tables
from bench.publish import first_table
from bench.speed import table as speed
from bench.speed.publish import holds

ROOT = Path(__file__).parents[1]
ALL = ROOT / "results" / "published"
EVERY = [f for f in sorted(ALL.glob("*/tables")) if f.parent.name != claims.NAME]
PUBLISHED = [folder for folder in EVERY if not holds(folder.parent)]
CAMPAIGNS = [folder for folder in EVERY if holds(folder.parent)]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.parent.name)
def test_published_tables_regenerate_to_the_byte_from_the_tidy_tables(folder, tmp_path):
    for made in tables.write(folder, tmp_path):
        assert made.read_bytes() == (folder / made.name).read_bytes(), made.name


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.parent.name)
def test_a_published_campaign_regenerates_to_the_byte(folder, tmp_path):
    for made in speed.write(folder.parent, tmp_path):
        assert made.read_bytes() == (folder / made.name).read_bytes(), made.name


def test_the_scorecard_regenerates_to_the_byte_from_the_published_suites(tmp_path):
    for made in claims.write(ALL, tmp_path):
        if made.suffix in (".csv", ".md", ".tex"):
            published = ALL / claims.NAME / "tables" / made.name
            assert made.read_bytes() == published.read_bytes(), "run: python -m bench claims"


def test_a_changed_raw_number_changes_the_scorecard(tmp_path):
    entries = [entry for entry in claims.read() if entry.claim.id == "dpp-int8"]
    (before,) = claims.score(ALL, entries)
    shutil.copytree(ALL / "dpp_bits" / "tables", tmp_path / "dpp_bits" / "tables")
    (same,) = claims.score(tmp_path, entries)
    assert same == before
    file = tmp_path / "dpp_bits" / "tables" / "points.csv"
    rows = list(csv.reader(file.read_text().splitlines()))
    run, top1 = (rows[0].index(name) for name in ("run", "top1"))
    flipped = next(row for row in rows if row[run] == before.checks[0].runs[0])
    flipped[top1] = "0.5"
    with file.open("w", newline="") as changed:
        csv.writer(changed, lineterminator="\n").writerows(rows)
    (after,) = claims.score(tmp_path, entries)
    assert after.checks[0].number.estimate < before.checks[0].number.estimate - 5
    assert (before.verdict, after.verdict) == ("reproduced", "within noise")


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published yet")
def test_one_changed_raw_number_changes_the_published_table(tmp_path):
    folder = PUBLISHED[0]
    for file in folder.glob("*.csv"):
        rows = list(csv.reader(file.read_text().splitlines()))
        if file.name == "points.csv":
            column = rows[0].index("top1")
            one = next(row for row in rows[1:] if row[rows[0].index("method")] == "dense")
            one[column] = "0.5"
        with (tmp_path / file.name).open("w", newline="") as changed:
            csv.writer(changed, lineterminator="\n").writerows(rows)
    tables.write(tmp_path, tmp_path / "out")
    made = (tmp_path / "out" / "comparison.csv").read_bytes()
    assert made != (folder / "comparison.csv").read_bytes()


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.parent.name)
def test_the_readme_shows_the_published_table(folder):
    readme = (ROOT / "README.md").read_text()
    marker = f"<!-- table: {folder.parent.name} -->\n"
    if marker not in readme:
        pytest.skip(f"README.md shows no table of {folder.parent.name}")
    shown = readme.split(marker)[1].split("<!-- end -->")[0].strip()
    whole = (folder / "comparison.md").read_text()
    assert shown == first_table(whole)
    assert "| *Methods* |" in shown
    assert "(like=" not in shown.split("\n\n- ")[0]
    assert "(like=" in whole


def test_the_readme_shows_the_scorecards_counts():
    shown = (ROOT / "README.md").read_text().split("<!-- table: scorecard -->\n")[1]
    whole = (ALL / claims.NAME / "tables" / "scorecard.md").read_text()
    assert shown.split("<!-- end -->")[0].strip() == first_table(whole)
    assert "| reproduced |" in shown


def test_published_files_are_small_and_text_but_for_figures():
    for file in (ROOT / "results" / "published").rglob("*"):
        if file.is_file() and file.name != "index.html":  # made on demand, not committed
            assert file.stat().st_size < 2_500_000, file  # histories of 700 runs
            assert file.suffix in (".csv", ".md", ".tex", ".json", ".png", ".pdf"), file
