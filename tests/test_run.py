"""A run from its spec to its record, on digits: what it leaves is true, complete and repeatable."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import data, measure
from bench import run as harness
from bench.data.dataset import Labelled
from bench.plan import baseline, expand
from bench.run import run
from bench.spec import Record, RunSpec
from bench.suite import validate
from bench.surgery import prunable, store

ROOT = data.root()
PATTERNS: dict[str, dict[str, Any]] = {
    "unstructured": {},
    "k-of-n": {"pattern": "k-of-n"},
    "*:4": {"pattern": "*:4", "uneven": "dense"},
    "block": {"pattern": "block:4x4", "uneven": "dense"},
    "column": {"pattern": "column"},
    "kernel": {"pattern": "kernel"},
    "channel": {"pattern": "channel"},
}


def specs(
    methods: dict[str, list[dict[str, Any]]],
    controls: tuple[str, ...] = ("random",),
    densities: tuple[float, ...] = (0.4,),
    **task: Any,
) -> dict[str, RunSpec]:
    """The plan's runs, a run after those that it needs."""
    content = {
        "suite": "test", "densities": densities, "seeds": [0], "controls": controls,
        "methods": methods,
        "tasks": [{
            "datasets": ["digits"], "architectures": ["resnet8"],
            "train": {"epochs": 2, "lr": 0.1, "batch_size": 64},
            "finetune": {"epochs": 1, "lr": 0.05},
            **task,
        }],
    }  # fmt: skip
    return expand(validate(content, "test")).runs


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs here share their dense start."""
    return tmp_path_factory.mktemp("suite")


def do(suite: Path, runs: dict[str, RunSpec]) -> list[Record]:
    return [run(spec, suite, ROOT, "cpu") for spec in runs.values()]


def layers(suite: Path, record: Record, point: int = 0) -> dict[str, dict[str, str]]:
    with (suite / "runs" / record.id / "layers.csv").open() as stream:
        return {r["layer"]: r for r in csv.DictReader(stream) if int(r["point"]) == point}


def counts(suite: Path, record: Record, point: int = 0) -> dict[str, int]:
    return {name: int(row["nonzeros"]) for name, row in layers(suite, record, point).items()}


def digest(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def timeless(record: Record) -> dict[str, Any]:
    """A record as JSON values, without what depends on the clock or the machine."""
    content = json.loads(
        record.model_dump_json(exclude={"started", "seconds", "peak_memory", "environment"})
    )
    for line in content["ledger"]:
        line.pop("seconds")
    return content


@pytest.fixture(scope="module", params=PATTERNS)
def trio(request: pytest.FixtureRequest, suite: Path) -> tuple[Record, Record, Record]:
    """(dense, magnitude, its random control) for each zero pattern."""
    return tuple(do(suite, specs({"magnitude": [PATTERNS[request.param]]})))  # type: ignore[return-value]


def test_every_pattern_runs_to_the_requested_density(trio) -> None:
    dense, pruned, control = trio
    assert [r.status for r in trio] == ["ok"] * 3, [r.reason for r in trio]
    assert dense.points[0].density == 1
    # the last two have coarse units: a quarter of a layer, a channel with all that reads it
    near = {"*:4": 0.02, "channel": 0.1}.get(pruned.spec.params.get("pattern", ""), 2e-3)
    assert pruned.points[0].density == pytest.approx(0.4, rel=near)
    assert control.points[0].density == pytest.approx(pruned.points[0].density, rel=1e-9)


def test_a_control_keeps_as_many_weights_as_its_source_in_every_layer(suite, trio) -> None:
    _, pruned, control = trio
    assert counts(suite, control) == counts(suite, pruned)
    other = {n: w != 0 for n, w in weights(suite, control).items()}
    assert any(
        not torch.equal(w != 0, other[n]) if w.shape == other[n].shape else True
        for n, w in weights(suite, pruned).items()
    ) or pruned.spec.params.get("pattern") == "channel"  # fmt: skip


def weights(suite: Path, record: Record, point: int = 0) -> dict[str, Tensor]:
    return prunable(store.load(suite / "runs" / record.id / "points" / str(point)))


def test_only_channels_shrink_the_net_and_controls_copy_its_widths(suite, trio) -> None:
    dense, pruned, control = trio
    shapes = [{n: tuple(w.shape) for n, w in weights(suite, r).items()} for r in trio]
    if pruned.spec.params.get("pattern") == "channel":
        assert pruned.points[0].parameters < 0.6 * dense.points[0].parameters
        assert pruned.points[0].macs < dense.points[0].macs
    else:
        assert shapes[1] == shapes[0]
        assert pruned.points[0].parameters == dense.points[0].parameters
        assert pruned.points[0].macs == dense.points[0].macs
        assert pruned.points[0].effective_macs < dense.points[0].macs
    assert shapes[2] == shapes[1]
    assert control.points[0].parameters == pruned.points[0].parameters


def test_the_stored_model_is_the_one_that_was_measured(suite, trio) -> None:
    digits = data.load("digits", ROOT)
    for record in trio:
        model = store.load(suite / "runs" / record.id / "points" / "0")
        assert store.digest(model) == record.points[0].digest
        assert measure.accuracy(model, digits.test, digits.normalise) == record.points[0].test


def test_layers_sum_to_the_point(suite, trio) -> None:
    for record in trio:
        rows, point = layers(suite, record).values(), record.points[0]
        kept, every = (sum(int(r[c]) for r in rows) for c in ("nonzeros", "weights"))
        assert kept / every == point.density
        assert sum(int(r["effective_macs"]) for r in rows) == point.effective_macs
        assert sum(int(r["macs"]) for r in rows) == point.macs


def test_accuracy_before_retraining_is_recorded_for_what_was_retrained(trio) -> None:
    dense, pruned, control = trio
    assert dense.points[0].before is None
    for record in (pruned, control):
        assert record.points[0].before.samples == record.points[0].test.samples
        assert record.points[0].before != record.points[0].test


def test_a_record_survives_its_file(suite, trio) -> None:
    for record in trio:
        text = (suite / "runs" / record.id / "record.json").read_text()
        assert Record.model_validate_json(text) == record
        assert record.id == record.spec.id
        assert record.points[-1].final


def test_the_ledger_and_the_history_tell_the_same_epochs(suite, trio) -> None:
    dense, pruned, _ = trio
    for record, phase in ((dense, "pretrain"), (pruned, "finetune")):
        lines = [
            json.loads(line)
            for line in (suite / "runs" / record.id / "history.jsonl").read_text().splitlines()
        ]
        epochs = [line for line in lines if line["event"] == "epoch" and line["phase"] == phase]
        spent = sum(s.epochs for s in record.ledger if s.phase == phase)
        assert epochs[-1]["epoch"] == pytest.approx(spent, abs=1e-3)
    assert pruned.ledger[0].phase == "pretrain"  # the shared start, paid once
    assert pruned.ledger[0].epochs == dense.ledger[0].epochs


def test_the_same_spec_gives_the_same_record_elsewhere(suite, tmp_path) -> None:
    runs = specs({"saam": [{}]})
    here, there = do(suite, runs), do(tmp_path, runs)
    assert [timeless(r) for r in here] == [timeless(r) for r in there]
    for record in here:
        folder = Path("runs") / record.id
        for part in ("layers.csv", "points/0/model.safetensors", "points/0/structure.json"):
            assert (suite / folder / part).read_bytes() == (tmp_path / folder / part).read_bytes()


def test_another_seed_gives_another_net(suite, trio) -> None:
    dense = trio[0]
    other = run(dense.spec.model_copy(update={"seed": 1}), suite, ROOT, "cpu")
    assert other.initial != dense.initial
    assert other.points[0].digest != dense.points[0].digest


def test_a_pruned_run_leaves_its_dense_start_as_it_was(suite, tmp_path) -> None:
    dense, *others = specs({"magnitude": [{}], "gradual_magnitude": [{}]}).values()
    run(dense, tmp_path, ROOT, "cpu")
    before = digest(tmp_path / "runs" / dense.id)
    for spec in others:
        assert run(spec, tmp_path, ROOT, "cpu").dense == dense.id
    assert digest(tmp_path / "runs" / dense.id) == before


def test_an_iterative_run_yields_a_curve_and_its_control_copies_the_points_asked_for(suite) -> None:
    _, ticket, control = do(
        suite, specs({"lottery_ticket": [{}]}, controls=("magnitude",), densities=(0.5, 0.2))
    )
    assert (ticket.status, control.status) == ("ok", "ok"), (ticket.reason, control.reason)
    densities = [p.density for p in ticket.points]
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == pytest.approx(0.2, rel=1e-3)
    assert [p.final for p in ticket.points] == [False] * (len(densities) - 1) + [True]
    spent = {s.phase: s.epochs for s in ticket.ledger}
    assert spent["finetune"] == pytest.approx(2, rel=0.02)  # an epoch for each density
    copied = ticket.operating_points
    assert len(copied) == len(control.points) == 2
    for own, source in zip(control.points, copied, strict=True):
        assert counts(suite, control, own.index) == counts(suite, ticket, source.index)
        assert own.epochs == pytest.approx(1, rel=0.02)  # each point has its own fine-tuning


# --- what a run may look at


class Watched(Labelled):
    """A split that remembers who asked for its images."""

    def __init__(self, split: Labelled) -> None:
        super().__init__(split.labels)
        self.split, self.callers = split, []

    def _take(self, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        stack = inspect.stack()
        self.callers.append({f"{Path(f.filename).parent.name}/{f.function}" for f in stack})
        yield from self.split._take(chunks)


@pytest.mark.parametrize("method", ["magnitude", "lottery_ticket", "sap"])
def test_test_images_are_opened_by_the_harness_alone(method, suite, tmp_path, monkeypatch) -> None:
    watched: list[Watched] = []
    load = harness.dataset

    def watching(*arguments: Any, **keys: Any) -> data.Dataset:
        loaded = load(*arguments, **keys)
        watched.append(Watched(loaded.test))
        return dataclasses.replace(loaded, test=watched[-1])

    monkeypatch.setattr(harness, "dataset", watching)
    records = do(tmp_path, specs({method: [{}]}, controls=()))
    assert [r.status for r in records] == ["ok", "ok"]
    for record, split in zip(records, watched, strict=True):
        asked = sum(1 + (p.before is not None) for p in record.points)
        assert len(split.callers) == asked  # once for each number in the record
        for callers in split.callers:
            assert "bench/measure" in callers
            assert not any(caller.startswith("methods/") for caller in callers)


# --- failures and interruptions


def test_a_dense_run_that_diverges_fails_with_the_reason_and_so_does_all_on_it(tmp_path) -> None:
    runs = specs({"magnitude": [{}]}, train={"epochs": 1, "lr": 1e30, "batch_size": 64})
    dense, pruned, control = do(tmp_path, runs)
    assert {r.status for r in (dense, pruned, control)} == {"failed"}
    assert dense.reason.startswith("TrainingFailed: the loss is nan in pretrain at step ")
    assert dense.id in pruned.reason
    assert dense.reason in pruned.reason
    assert all(r.points == () for r in (dense, pruned, control))
    assert sum(s.samples for s in dense.ledger) > 0  # what it cost is not forgotten
    again = {run.id: digest(tmp_path / "runs" / run.id) for run in (dense, pruned, control)}
    do(tmp_path, runs)
    assert again == {run: digest(tmp_path / "runs" / run) for run in again}


def test_a_density_that_empties_a_layer_fails_with_its_name(suite) -> None:
    runs = specs({"magnitude": [{"density": 0.0005}]})
    dense, pruned, control = do(suite, runs)
    assert dense.status == "ok"
    assert pruned.status == "failed"
    assert "layer collapse: no weight is left in layer" in pruned.reason or (
        "layer collapse: no weight is left in conv" in pruned.reason
    )
    assert control.status == "failed"
    assert f"the run it copies, {pruned.id}, has no operating point" in control.reason


def test_a_finished_run_is_not_done_again(suite, monkeypatch) -> None:
    spec = next(iter(specs({}).values()))
    first = run(spec, suite, ROOT, "cpu")
    monkeypatch.setattr(harness, "Work", None)  # it would fail if it were
    assert run(spec, suite, ROOT, "cpu") == first


def test_a_run_that_was_cut_off_is_done_again_from_nothing(tmp_path) -> None:
    spec = next(iter(specs({}).values()))
    first = run(spec, tmp_path, ROOT, "cpu")
    folder = tmp_path / "runs" / spec.id
    (folder / "record.json").unlink()  # as if somebody asked for it anew
    half = folder.with_name(f"{spec.id}.partial")
    half.mkdir()
    (half / "history.jsonl").write_text('{"event": "ep')
    (half / "left_over").write_text("of a killed process")
    assert timeless(run(spec, tmp_path, ROOT, "cpu")) == timeless(first)
    assert not half.exists()
    assert not (folder / "left_over").exists()
    assert [json.loads(line)["event"] for line in (folder / "history.jsonl").open()]


def test_a_fault_of_the_code_leaves_no_record(tmp_path, monkeypatch) -> None:
    spec = next(iter(specs({}).values()))

    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(harness.Work, "measure", broken)
        with pytest.raises(KeyError, match="a bug"):
            run(spec, tmp_path, ROOT, "cpu")
    assert not (tmp_path / "runs" / spec.id).exists()
    assert run(spec, tmp_path, ROOT, "cpu").status == "ok"


def test_a_run_whose_dense_start_is_missing_says_so(tmp_path) -> None:
    dense, pruned, *_ = specs({"magnitude": [{}]}).values()
    assert baseline(pruned).id == dense.id
    with pytest.raises(FileNotFoundError, match=dense.id):
        run(pruned, tmp_path, ROOT, "cpu")


def test_a_record_names_data_versions_and_commit(trio) -> None:
    record = trio[0]
    assert record.dataset["name"] == "digits"
    assert record.dataset["splits"]["test"] == record.points[0].test.samples
    assert {"packages", "git", "device", "threads"} <= record.environment.keys()
    assert record.environment["device"] == "cpu"
    assert record.environment["packages"]["torch"] == torch.__version__.split("+")[0] or (
        record.environment["packages"]["torch"] == torch.__version__
    )
    assert record.peak_memory > 1e7
    assert record.seconds > 0
