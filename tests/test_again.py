"""One command draws what was published again, from its tidy tables alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import figures, tables, workflow
from bench.collect import collect
from tests import records
from tests.test_workflow import ROOT, environment

METHODS = ("dense", "magnitude", "random")


def snakemake(folder: Path, *targets: str, source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("snakemake")), *targets,
            *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
            *("--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "2"),
            *("--config", f"source={source}"),
        ],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def published(tmp_path) -> Path:
    """A folder with nothing but tidy tables as text, as they are in git."""
    made = [item for item in records.suite(seeds=2) if item.spec.variant in METHODS]
    collect(records.write(tmp_path / "raw", made))
    folder = tmp_path / "results" / "published" / "small"
    (folder / "tables").mkdir(parents=True)
    for file in (tmp_path / "raw" / "tables").glob("*.csv"):
        file.rename(folder / "tables" / file.name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_tables_and_figures_come_back_and_a_second_call_makes_them_again(published, tmp_path):
    tidy = published / "tables"
    for name in figures.names(METHODS):
        figures.draw(name, tidy, tmp_path / "figures")
    wanted = contents(tidy) | {
        file.name: file.read_bytes() for file in tables.write(tidy, tmp_path / "tables")
    }
    first = snakemake(tmp_path, source="published")
    assert first.returncode == 0, first.stderr
    assert contents(tidy) == wanted
    assert contents(published / "figures") == contents(tmp_path / "figures")
    assert {path.name for path in published.iterdir()} == {"tables", "figures"}
    (tidy / "comparison.md").write_text("typed by hand")
    second = snakemake(tmp_path, "tables", source="published/small")
    assert second.returncode == 0, second.stderr
    assert contents(tidy) == wanted


def test_a_source_without_tidy_tables_is_one_message(published, tmp_path):
    failed = snakemake(tmp_path, "figures", source="published/smal")
    assert failed.returncode != 0
    said = "error: no tidy tables in results/published/smal; in results/published are: small"
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_source_is_a_folder_with_tables_or_all_that_a_folder_holds(published, tmp_path):
    campaign = published.parent / "cpu" / "tables"
    campaign.mkdir(parents=True)
    (campaign / "speed.csv").touch()
    (published.parent / "claims" / "tables").mkdir(parents=True)  # neither suite nor campaign
    results = tmp_path / "results"
    both = workflow.sources({"source": "published"}, results)
    assert both == ("published/cpu", "published/small")
    for name in ("published/small", "published/small/", str(published)):
        assert workflow.sources({"source": name}, results) == ("published/small",)
