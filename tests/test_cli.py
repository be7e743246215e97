"""`python -m bench`: every command helps, works on a small suite, and fails with one clear line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench import kernels, method
from bench.__main__ import COMMANDS, main
from bench.plan import expand
from bench.run import read as read_record
from bench.suite import read

ROOT = Path(__file__).parents[1]
CONFIG = """\
suite: byhand
device: cpu
densities: [0.5]
seeds: [0, 1]
tasks:
  - datasets: [digits]
    architectures: [lenet300]
    train: {epochs: 1, batch_size: 64}
    finetune: {epochs: 1}
methods: {magnitude: [{}]}
latency: null
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small suite's file; the working directory, where results go, is its folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "byhand.yaml"
    file.write_text(CONFIG)
    yield file
    assert (torch.full((4,), 1e-40) * 1).count_nonzero() == 4  # as it was before


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error with which the command fails."""
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert captured.out == ""
    return lines[0]


def python(*arguments: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_help_names_every_command(capsys) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    text = capsys.readouterr().out
    listed = {line.split()[0] for line in text.splitlines() if line.startswith("    ")}
    assert {name for name, *_ in COMMANDS} <= listed
    assert "first steps" in text


@pytest.mark.parametrize("name", [name for name, *_ in COMMANDS])
def test_every_command_explains_itself_and_each_option(name, capsys) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([name, "--help"])
    text = capsys.readouterr().out
    _, _, _, options = next(command for command in COMMANDS if command[0] == name)
    assert all(settings.get("help") for _, settings in options)
    described = text.partition("positional arguments:")[0].partition("options:")[0]
    assert len(described.partition("\n\n")[2].split()) >= 4  # a sentence, beyond the usage


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom bench.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'mlflow', 'timm', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = python("-c", code, folder=ROOT, path=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_methods_lists_every_file_with_family_and_citation(capsys) -> None:
    assert main(["methods"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["method", "family", "patterns", "start", "citation"]
    assert [row.split()[0] for row in rows] == list(method.names())
    for row, name in zip(rows, method.names(), strict=True):
        kind = method.load(name)
        assert kind.family
        assert kind.family in row
        assert row.endswith(kind.citation)


def test_kernels_lists_every_path_with_what_it_is(capsys) -> None:
    assert main(["kernels"]) == 0
    rows = [row.split(maxsplit=1) for row in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == list(kernels.names())
    assert all(len(row) == 2 for row in rows)


def test_doctor_finds_what_the_default_suite_needs(capsys, tmp_path) -> None:
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"data root: {tmp_path}" in text
    assert "[ok]  digits: bundled" in text
    assert "[absent]  cifar10: " in text
    assert "[missing]" not in text
    assert ("[cannot]  GPU latency" in text) == (not torch.cuda.is_available())


def test_plan_prints_the_runs_of_the_expansion(config, capsys) -> None:
    made = expand(read(config))
    assert main(["plan", str(config)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["runs"]) == set(made.runs)
    assert {b: tuple(r) for b, r in content["batches"].items()} == made.batches
    assert main(["plan", str(config), "--summary"]) == 0
    assert capsys.readouterr().out.startswith("suite byhand: 8 runs in 8 jobs, 1 pairs\n")


def test_runs_by_hand_bring_what_they_need_and_teach_the_estimate(config, capsys) -> None:
    assert main(["estimate", str(config)]) == 0
    blind = capsys.readouterr().out
    assert "suite byhand: 8 runs, 0 of them done" in blind
    assert "lenet300 on digits: 8 runs, unknown: no past run" in blind
    assert main(["run", str(config), "--only", "magnitude-lenet300-digits-s1"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert [run.split("-")[0] for run in done] == ["dense", "magnitude"]
    for run, what in done.items():
        record = read_record(Path("results/byhand/runs") / run)
        assert what == {"status": "ok", "points": [p.digest for p in record.points]}
        assert record.spec.seed == 1
    assert main(["estimate", str(config), "--cores", "2"]) == 0
    told = capsys.readouterr().out
    assert "suite byhand: 8 runs, 2 of them done" in told
    assert "lenet300 on digits: 6 runs, " in told
    assert "unknown" not in told
    assert told.splitlines()[-1].endswith("on 2 processes")


def test_a_method_made_from_the_template_is_found_and_runs(config, tmp_path) -> None:
    """In a copy of methods/, which the working directory puts before the repository's."""
    shutil.copytree(ROOT / "methods", tmp_path / "methods")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    made = python("-m", "bench", "new-method", "my_idea", folder=tmp_path, path=path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "methods" / "my_idea.py").is_file()
    assert not (ROOT / "methods" / "my_idea.py").exists()
    config.write_text(CONFIG.replace("magnitude: [{}]", "my_idea: [{}]"))
    done = python("-m", "bench", "run", str(config), folder=tmp_path, path=path)
    assert done.returncode == 0, done.stderr
    statuses = {run: what["status"] for run, what in json.loads(done.stdout).items()}
    assert sum(run.startswith("my_idea-") for run in statuses) == 2
    assert set(statuses.values()) == {"ok"}
    again = python("-m", "bench", "new-method", "my_idea", folder=tmp_path, path=path)
    assert again.returncode == 1
    assert again.stderr == "error: my_idea.py exists in methods/ already\n"


def test_a_method_needs_a_plain_name(capsys) -> None:
    assert complaint(capsys, "new-method", "My-Idea").startswith(
        "error: 'My-Idea': a method's name"
    )
    assert not list((ROOT / "methods").glob("[Mm]y*"))


@pytest.mark.parametrize("command", ["plan", "run", "estimate"])
def test_an_unknown_suite_is_told_in_one_line_with_those_there_are(command, capsys) -> None:
    line = complaint(capsys, command, "quik")
    assert line.startswith("error: no suite 'quik'; there are: ")
    assert "quick" in line


def test_a_bad_config_is_told_in_one_line(config, capsys) -> None:
    config.write_text(CONFIG.replace("seeds", "seedz") + "seeds: [0]\n")
    assert complaint(capsys, "plan", str(config)) == (
        f"error: {config}: seedz: unknown key; did you mean 'seeds'?"
    )


def test_what_cannot_be_done_is_told_in_one_line(config, tmp_path, capsys) -> None:
    assert "no run whose id starts with 'sap'" in complaint(
        capsys, "run", str(config), "--only", "sap"
    )
    assert "give a suite, or --plan and --batch" in complaint(capsys, "run")
    assert str(tmp_path) in complaint(capsys, "tables", str(tmp_path))
    assert "no figure 'pie'" in complaint(capsys, "figures", str(tmp_path), "--only", "pie")
    assert "run the suite first" in complaint(capsys, "publish", str(tmp_path), "tag")
    assert "unknown data set 'digit'; did you mean 'digits'?" in complaint(capsys, "data", "digit")


def test_an_unknown_command_or_option_ends_with_code_2(capsys) -> None:
    for arguments in (["trian"], ["run", "quick", "--fast"], []):
        with pytest.raises(SystemExit, match=r"^2$"):
            main(arguments)
    assert "invalid choice: 'trian'" in capsys.readouterr().err
