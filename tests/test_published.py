"""Published numbers are what the code makes of the published tidy tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bench import tables
from bench.publish import first_table
from bench.speed import table as speed
from bench.speed.publish import holds

ROOT = Path(__file__).parents[1]
EVERY = sorted((ROOT / "results" / "published").glob("*/tables"))
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


@pytest.mark.skipif(not PUBLISHED, reason="nothing is published yet")
def test_changed_raw_numbers_change_the_published_table(tmp_path):
    folder = PUBLISHED[0]
    for file in folder.glob("*.csv"):
        rows = list(csv.reader(file.read_text().splitlines()))
        if file.name == "points.csv":
            column = rows[0].index("top1")
            rows[1:] = [[*row[:column], "0.5", *row[column + 1 :]] for row in rows[1:]]
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


def test_published_files_are_small_and_text_but_for_figures():
    for file in (ROOT / "results" / "published").rglob("*"):
        if file.is_file():
            assert file.stat().st_size < 2_500_000, file  # histories of 700 runs
            assert file.suffix in (".csv", ".md", ".tex", ".json", ".png", ".pdf"), file
