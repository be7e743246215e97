"""The Snakemake workflow, run as a user runs it, in a folder of its own."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench import figures, tables, tidy, workflow
from bench.collect import collect
from bench.data import root as data_root
from bench.plan import Plan, expand
from bench.run import run
from bench.suite import read

ROOT = Path(__file__).parents[1]
CONFIG = """\
suite: smoke
device: cpu
densities: [0.3]
seeds: [0, 1]
tasks:
  - datasets: [digits]
    architectures: [resnet8]
    train: {epochs: 1, lr: 0.05, batch_size: 64}
    finetune: {epochs: 1, lr: 0.02}
methods: {magnitude: [{}], saam: [{}]}
runs_per_job: 4
latency: {devices: [cpu], dtypes: [fp32], threads: [1], batch_sizes: [4], seconds_per_cell: 0.02}
"""
TIMELESS = ("runs", "points", "layers", "history")
"""The tidy tables that hold no measured time but in `TIME_COLUMNS`."""


def command(folder: Path, config: Path, *more: str) -> list[str]:
    return [
        str(Path(sys.executable).with_name("snakemake")),
        *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "2"),
        *more,
        *("--config", f"suite={config}"),
    ]


def environment() -> dict[str, str]:
    """This interpreter first on PATH, and this repository's `bench`, whatever the folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def snakemake(folder: Path, config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, config, *more),
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Workflow:
    """A workflow that was killed once and called again."""

    folder: Path
    config: Path
    plan: Plan
    finished: dict[str, int]
    """Run ids that had a record when the kill came -> their modification time in ns."""
    again: subprocess.CompletedProcess[str]

    @property
    def suite(self) -> Path:
        return self.folder / "results" / "smoke"

    @property
    def made(self) -> workflow.WorkflowPlan:
        return workflow.plan({"suite": str(self.config)})


def records(suite: Path) -> dict[str, int]:
    return {f.parent.name: f.stat().st_mtime_ns for f in suite.glob("runs/*/record.json")
            if not f.parent.name.endswith(".partial")}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("workflow")
    config = folder / "smoke.yaml"
    config.write_text(CONFIG)
    suite = folder / "results" / "smoke"
    process = subprocess.Popen(
        command(folder, config), env=environment(), cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 500
        # half-way: some runs are finished and another has begun
        while not (len(records(suite)) >= 3 and list(suite.glob("runs/*.partial"))):
            assert process.poll() is None, "the workflow ended before it could be killed"
            assert time.monotonic() < deadline, "no third record in time"
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = records(suite)
    again = snakemake(folder, config)
    return Workflow(folder, config, expand(read(config)), finished, again)


def test_a_killed_workflow_is_finished_by_calling_it_again(done: Workflow) -> None:
    assert done.again.returncode == 0, done.again.stderr
    assert len(done.finished) < len(done.plan.runs)
    assert set(records(done.suite)) == set(done.plan.runs)
    assert not list(done.suite.glob("runs/*.partial"))


def test_finished_runs_survive_the_kill_untouched(done: Workflow) -> None:
    now = records(done.suite)
    assert {run: now[run] for run in done.finished} == done.finished


def test_every_promised_file_is_there_and_holds_something(done: Workflow) -> None:
    promised = [
        *(done.suite / "tables" / f"{t}.{k}" for t in workflow.TABLES for k in ("parquet", "csv")),
        *(
            done.suite / "tables" / f"{t}.{k}"
            for t in done.made.paper_tables
            for k in workflow.KINDS
        ),
        *(done.suite / "figures" / f"{f}.{k}" for f in done.made.figures for k in ("png", "pdf")),
        *(done.suite / "batches" / f"{b}.json" for b in done.plan.batches),
        *(done.suite / "logs" / "run" / f"{b}.log" for b in done.plan.batches),
        *(done.suite / name for name in ("plan.json", "track.json", "mlflow.db")),
        done.suite / "latency" / "resnet8-digits.csv",
    ]
    assert [file for file in promised if not file.is_file() or not file.stat().st_size] == []


def test_the_comparison_has_every_variant_with_both_seeds(done: Workflow) -> None:
    table = pd.read_csv(done.suite / "tables" / "comparison.csv")
    assert set(table["variant"]) == {spec.variant for spec in done.plan.runs.values()}
    assert (table["n"] == 2).all()
    assert (table["failed"] == 0).all()


def test_a_killed_workflow_gives_the_tables_of_an_undisturbed_one(
    done: Workflow, tmp_path: Path
) -> None:
    torch.set_flush_denormal(True)  # as `bench run` does
    try:
        for spec in done.plan.runs.values():
            run(spec, tmp_path, data_root(), "cpu")
    finally:
        torch.set_flush_denormal(False)
    collect(tmp_path, done.plan.runs)
    for name in TIMELESS:
        assert timeless(done.suite, name) == timeless(tmp_path, name), name


def timeless(suite: Path, name: str) -> bytes:
    """The CSV of a tidy table without the columns that depend on the clock."""
    table = pd.read_csv(suite / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
    out = io.StringIO()
    table.drop(columns=[c for c in tidy.TIME_COLUMNS if c in table]).to_csv(out, index=False)
    return out.getvalue().encode()


def test_a_second_call_has_nothing_to_do(done: Workflow) -> None:
    second = snakemake(done.folder, done.config)
    assert second.returncode == 0
    assert "Nothing to be done" in second.stdout + second.stderr


def test_a_lost_table_is_made_again_without_a_run(done: Workflow) -> None:
    (done.suite / "tables" / "comparison.md").unlink()
    dry = snakemake(done.folder, done.config, "--dry-run")
    jobs = set(re.findall(r"^(\w+) +\d+$", dry.stdout + dry.stderr, re.MULTILINE)) - {"total"}
    assert jobs == {"tables", "all"}


def test_a_misspelt_key_ends_the_workflow_before_any_job(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(CONFIG.replace("densities:", "density:"))
    failed = snakemake(tmp_path, config)
    assert failed.returncode != 0
    assert f"{config}: density: unknown key" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "results").exists()


def test_a_misspelt_setting_on_the_command_line_is_refused(tmp_path: Path) -> None:
    arguments = [*command(tmp_path, tmp_path / "unused.yaml")[:-1], "suit=quick"]
    failed = subprocess.run(
        arguments, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert failed.returncode != 0
    assert "error: --config suit: only suite=" in failed.stderr
    assert not (tmp_path / "results").exists()


def test_a_failed_job_keeps_its_log_and_leaves_no_output(tmp_path: Path) -> None:
    config = tmp_path / "missing.yaml"
    config.write_text(
        CONFIG.replace("[digits]", "[mnist]").replace("device:", f"data_root: {tmp_path}\ndevice:")
    )
    failed = snakemake(tmp_path, config)
    assert failed.returncode != 0
    suite = tmp_path / "results" / "smoke"
    log = (suite / "logs" / "data" / "mnist.log").read_text()
    assert log.startswith("error: ")
    assert "mnist" in log
    assert log.strip() in failed.stderr  # the reason is also where the user looks
    assert not (suite / "data" / "mnist.json").exists()
    assert not (suite / "batches").exists() or not list((suite / "batches").iterdir())


@pytest.mark.parametrize(
    "more", [(), ("--config", "campaign=cpu"), ("--config", "source=published")]
)
def test_lint_asks_for_nothing_but_an_environment(more: tuple[str, ...]) -> None:
    lint = subprocess.run(
        [str(Path(sys.executable).with_name("snakemake")), "--lint", *more],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    complaints = set(re.findall(r"^    \* (.+)$", lint.stdout + lint.stderr, re.MULTILINE))
    assert complaints <= {"Specify a conda environment or container for each rule.:"}


CAMPAIGN = """\
campaign: small
image: [1, 16, 16]
nets:
  of: [lenet5]
  versions: {random: [{}]}
  densities: [0.1]
  latency: {devices: [cpu], dtypes: [fp32], threads: [1], batch_sizes: [1], seconds_per_cell: 0.02,
    paths: [dense, embedding_bag]}
"""


def test_a_campaign_of_latencies_runs_and_a_second_call_finds_nothing_to_do(tmp_path) -> None:
    file, suite = tmp_path / "small.yaml", tmp_path / "smoke.yaml"
    file.write_text(CAMPAIGN)
    suite.write_text(CONFIG)

    def call() -> subprocess.CompletedProcess[str]:
        started = command(tmp_path, suite, "speed")
        return subprocess.run(
            [*started, f"campaign={file}"],
            env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    first = call()
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "results" / "small"
    table = pd.read_csv(folder / "tables" / "speed.csv")
    found = set(table[["run", "role", "path"]].itertuples(index=False, name=None))
    assert found == {
        ("dense", "twin", "dense"),
        ("dense", "baseline", "dense"),
        ("dense", "control", "embedding_bag"),
        ("random@0.1", "candidate", "dense"),
        ("random@0.1", "candidate", "embedding_bag"),
    }
    # one that a crowded machine spoils is a row, but in no table for people
    steady = table[table["run"].eq("random@0.1") & table["status"].eq("ok")]
    shown = "| random | 0.1 |" in (folder / "tables" / "nets.md").read_text()
    twin = table.loc[table["role"] == "twin", "status"].iloc[0]
    assert shown == (len(steady) > 0 and twin == "ok")
    assert "Nothing to be done" in call().stderr
    file.write_text(CAMPAIGN.replace("lenet5", "lenet6"))
    refused = call()
    assert refused.returncode != 0
    assert "lenet6" in refused.stderr


def test_the_workflow_knows_every_table_and_figure_and_each_has_a_caption() -> None:
    assert tuple(workflow.PAPER_TABLES) == tables.NAMES
    assert set(workflow.TABLES) == set(tidy.SORT)
    for caption in (*workflow.PAPER_TABLES.values(), *figures.names()):
        assert (ROOT / "bench" / "report" / f"{caption}.rst").read_text().strip()
