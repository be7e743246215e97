"""Field prediction in the benchmark: exact errors, and a suite of fields from runs to figure."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench import data, figures, latency, measure, models, tables, tidy
from bench.collect import collect
from bench.data.augment import augment
from bench.data.fields import FieldSplit
from bench.data.task import CLASSIFICATION, FIELD
from bench.figures import style
from bench.latency import machine, solver
from bench.measure.field import SHOWN, keep
from bench.plan import expand
from bench.run import run
from bench.spec import Accuracy, FieldError, Record
from bench.suite import ConfigError, validate
from bench.surgery import channels, store
from bench.tables.measures import MEASURES
from bench.track import content
from bench.wave import trajectories

SMALL = trajectories.Recipe(nodes=16, refine=2, trajectories=14, frames=24)
CONFIG: dict[str, Any] = {
    "suite": "waves", "device": "cpu", "densities": [0.5], "seeds": [0, 1],
    "tasks": [{
        "datasets": ["wave32"], "architectures": ["wave_net"],
        "train": {"epochs": 2, "optimizer": "adam", "lr": 0.003, "weight_decay": 0,
                  "batch_size": 16, "augment": ["noise"]},
        "finetune": {"epochs": 1, "lr": 0.001},
    }],
    "methods": {"magnitude": [{}], "sap": [{}]}, "controls": ["random"],
    "latency": {"devices": ["cpu"], "dtypes": ["fp32"], "threads": [1], "batch_sizes": [1],
                "seconds_per_cell": 0.02},
}  # fmt: skip


class Linear(nn.Module):
    """The next frame is `a` times the last, and `b` times the one before it."""

    def __init__(self, a: float, b: float = 0) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, fields: Tensor) -> Tensor:
        return self.a * fields[:, 1:2] + self.b * fields[:, 0:1]


def oscillation(step: float = 0.3, count: int = 12) -> FieldSplit:
    """Three modes cos(k t) of one shape: u_{t+1} = 2 cos(step) u_t - u_{t-1}, exactly."""
    shape = torch.randn(3, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    times = torch.cos(step * (torch.arange(count) + 0.2 * torch.arange(3)[:, None]))
    return FieldSplit(shape * times[:, :, None, None], torch.tensor([-1.0, 0.0, 1.0]))


# --- the task


def test_a_sample_is_two_frames_the_speed_and_the_frame_after_them() -> None:
    split = oscillation()
    assert len(split) == 3 * 10
    order = torch.tensor([0, 29, 13])
    (inputs, targets), (rest, _) = split.batches(2, order)
    assert (inputs.shape, targets.shape, len(rest)) == ((2, 3, 4, 8), (2, 1, 4, 8), 1)
    assert torch.equal(inputs[1, 0], split.frames[2, 9])
    assert torch.equal(inputs[1, 1], split.frames[2, 10])
    assert torch.equal(targets[1, 0], split.frames[2, 11])
    assert (inputs[:, 2].flatten(1).unique(dim=1).flatten() == torch.tensor([-1.0, 1.0])).all()
    assert torch.equal(rest[0, 0], split.frames[1, 3])


def test_the_truth_has_no_error_nothing_has_all_and_the_last_frame_something_between() -> None:
    split = oscillation()
    exact = measure.field_error(Linear(2 * math.cos(0.3), -1), split)
    nothing = measure.field_error(Linear(0), split)
    assert exact.relative_l2 == pytest.approx(0, abs=1e-5)
    assert exact.rollout == pytest.approx([0] * 10, abs=1e-4)
    assert (nothing.relative_l2, nothing.score) == (1, 0)
    assert nothing.rollout == (1,) * 10
    assert nothing.loss == pytest.approx(float((split.frames[:, 2:] ** 2).mean()), rel=1e-6)
    assert (exact.samples, nothing.samples) == (30, 30)
    factor = measure.field_error(Linear(3 * math.cos(0.3), -1.5), split)  # 1.5 times the truth
    assert factor.relative_l2 == pytest.approx(0.5, rel=1e-5)
    assert factor.rollout[0] == pytest.approx(0.5, rel=1e-5)


def test_a_rolled_out_error_is_that_of_the_models_own_recurrence() -> None:
    split, model = oscillation(), Linear(1.1)
    wanted = [
        np.mean([
            float((1.1**k * f[1] - f[1 + k]).norm() / f[1 + k].norm()) for f in split.frames
        ])
        for k in range(1, 11)
    ]  # fmt: skip
    assert measure.field_error(model, split).rollout == pytest.approx(wanted, rel=1e-4)


def test_a_prediction_that_blows_up_is_infinitely_wrong_and_nan_in_one_step_is_a_failure() -> None:
    found = measure.field_error(Linear(1e30), oscillation())
    assert found.rollout[-1] == math.inf
    assert FieldError.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(FloatingPointError, match="30 of 30 frames are not finite"):
        measure.field_error(Linear(math.nan), oscillation())


def test_the_loss_is_the_squared_error_and_refuses_to_smooth_labels() -> None:
    outputs, targets = torch.randn(5, 1, 4, 8), torch.randn(5, 1, 4, 8)
    loss = FIELD.loss(outputs, targets)
    assert float(loss) == pytest.approx(float(((outputs - targets) ** 2).mean()), rel=1e-6)
    assert float(FIELD.loss(outputs, targets, total=True)) == pytest.approx(5 * float(loss))
    with pytest.raises(ValueError, match="label_smoothing"):
        FIELD.loss(outputs, targets, 0.1)


def test_classification_is_trained_and_judged_as_before() -> None:
    digits = data.load("digits", data.root())
    assert digits.task is CLASSIFICATION
    assert "task" not in data.info(digits)
    torch.manual_seed(0)
    model = models.build("lenet300", digits.shape, digits.classes)
    images, labels = next(digits.train.batches(32))
    outputs = model(digits.normalise(images))
    for total, reduction in ((False, "mean"), (True, "sum")):
        wanted = nn.functional.cross_entropy(
            outputs, labels, label_smoothing=0.1, reduction=reduction
        )
        assert torch.equal(CLASSIFICATION.loss(outputs, labels, 0.1, total), wanted)
    found = CLASSIFICATION.evaluate(model, digits, digits.validation)
    assert found == measure.accuracy(model, digits.validation, digits.normalise)
    assert found.score == found.top1


def test_the_fields_that_a_figure_shows_are_those_predicted(tmp_path) -> None:
    split = oscillation(count=9)
    keep(Linear(0.5), split, tmp_path / "fields.csv")
    table = pd.read_csv(tmp_path / "fields.csv")
    assert list(table["step"]) == [1, 1, 5, 5]
    for row in table.to_dict("records"):
        wanted = (
            0.5 ** row["step"] * split.frames[0, 1]
            if row["what"] == "predicted" else split.frames[0, 1 + row["step"]]
        )  # fmt: skip
        values = torch.tensor([int(v) for v in row["values"].split()]) / 1000
        assert torch.allclose(values.reshape(4, 8), wanted, atol=6e-4)


# --- the net, and what does not fit


def test_the_net_gives_a_field_of_the_same_size_in_a_hundred_thousand_numbers() -> None:
    net = models.build("wave_net", (3, 32, 32), 1)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 32, 32)
    assert net(torch.zeros(2, 3, 64, 48)).shape == (2, 1, 64, 48)
    assert 90_000 < sum(p.numel() for p in net.parameters()) < 120_000
    assert 5e6 < sum(measure.macs(net, (3, 32, 32)).values()) < 15e6


def test_channels_can_be_removed_from_the_net() -> None:
    torch.manual_seed(1)
    net = models.build("wave_net", (3, 16, 16), 1).eval()
    groups = channels.groups(net, (3, 16, 16))
    assert {"stem.weight", "down1.weight", "down2.weight", "middle.weight"} <= {
        g.name for g in groups
    }
    kept = {g.name: torch.arange(g.size) % 2 == 0 for g in groups}
    small = channels.shrink(net, (3, 16, 16), kept)
    channels.mask(net, groups, kept)
    x = torch.randn(2, 3, 16, 16)
    assert torch.allclose(net(x), small(x), atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < 30_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["resnet8"]}, "resnet8: shape is .* with 1 classes"),
        ({"datasets": ["digits"]}, "it needs a data set of fields"),
    ],
)
def test_a_net_of_another_task_is_refused_before_any_run(change, message) -> None:
    task = CONFIG["tasks"][0] | change
    with pytest.raises(ConfigError, match=message):
        validate(CONFIG | {"tasks": [task]}, "test")


def test_noise_is_on_the_frames_of_a_field_and_on_nothing_else() -> None:
    fields = torch.ones(20, 3, 16, 16)
    noisy = augment(fields, ("noise",), torch.Generator().manual_seed(0))
    assert torch.equal(noisy[:, 2], fields[:, 2])
    assert float((noisy - fields)[:, :2].std()) == pytest.approx(0.05, rel=0.05)
    for which, inputs in (("flip", fields), ("noise", fields.byte())):
        with pytest.raises(ValueError, match=f"{which} is no augmentation of"):
            augment(inputs, (which,), torch.Generator())


# --- a suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> tuple[Path, dict[str, Record]]:
    """Every run of the suite on small trajectories, measured, timed and collected."""
    folder = tmp_path_factory.mktemp("waves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(trajectories.RECIPES, "wave32", SMALL)
        plan = expand(validate(CONFIG, "test"))
        made = {name: run(spec, folder, folder / "data", "cpu") for name, spec in plan.runs.items()}
        timed = plan.timed("wave_net-wave32")
        patch.setattr(machine, "complaint", lambda *_: "")  # no number is looked at
        latency.run(folder, "wave32", "wave_net", timed, plan.config.latency)
        patch.setattr(solver, "TRAJECTORIES", 2)
        solver.run(folder, "wave32")
    collect(folder, plan.runs)
    tables.write(folder / "tables", folder / "tables")
    return folder, made


def test_every_run_of_fields_ends_with_errors_and_nothing_of_classes(suite) -> None:
    _, made = suite
    assert {r.status for r in made.values()} == {"ok"}, [r.reason for r in made.values()]
    for record in made.values():
        assert record.dataset["task"] == "field"
        for point in record.points:
            assert isinstance(point.test, FieldError)
            assert isinstance(point.validation, FieldError)
            assert point.worst_class_drop is None
            assert len(point.test.rollout) == 20
            assert 0 < point.test.relative_l2 < 2
    dense = [r.points[-1].test.relative_l2 for r in made.values() if r.spec.method == "dense"]
    noise = [r.points[-1].before for r in made.values() if r.spec.method == "random"]
    assert max(dense) < min(b.relative_l2 for b in noise)


def test_the_stored_net_has_the_error_of_its_record(suite, monkeypatch) -> None:
    folder, made = suite
    monkeypatch.setitem(trajectories.RECIPES, "wave32", SMALL)
    waves = data.load("wave32", folder / "data")
    record = next(r for r in made.values() if r.spec.method == "magnitude" and r.spec.like is None)
    model = store.load(folder / "runs" / record.id / "points" / "0")
    assert measure.field_error(model, waves.test) == record.points[0].test
    assert float(waves.train.frames.square().mean()) == pytest.approx(1, rel=1e-4)
    assert waves.normalise(waves.test.frames) is waves.test.frames


def test_tidy_tables_hold_the_errors_and_only_few_fields(suite) -> None:
    folder, made = suite
    points, rollout = (tidy.read(folder / "tables", n) for n in ("points", "rollout"))
    assert points["top1"].isna().all()
    assert set(points["task"]) == {"field"}
    for row in points.to_dict("records"):
        test = made[row["run"]].points[row["point"]].test
        assert row["relative_l2"] == pytest.approx(test.relative_l2, rel=1e-9)
        own = rollout[(rollout["run"] == row["run"]) & (rollout["point"] == row["point"])]
        assert own["relative_l2"].tolist() == pytest.approx(list(test.rollout), rel=1e-9)
    fields = tidy.read(folder / "tables", "fields")
    assert fields.groupby("what")["run"].nunique().to_dict() == {"predicted": 2, "true": 1}
    assert sorted(set(fields["step"])) == list(SHOWN)
    assert (folder / "tables" / "fields.csv").stat().st_size < 150_000
    readme = (Path(__file__).parents[1] / "results" / "README.md").read_text()
    for name in ("runs", "points", "rollout", "fields", "solver"):
        columns = set(tidy.read(folder / "tables", name).columns)
        assert not {c for c in columns if f"`{c}`" not in readme}, name


def test_the_wave_table_has_nets_and_the_simulator_and_regenerates_from_csv(
    suite, tmp_path
) -> None:
    folder, made = suite
    for file in (folder / "tables").glob("*.csv"):
        shutil.copy(file, tmp_path)
    again = tables.write(tmp_path, tmp_path / "out")
    assert {file.stem for file in again} == set(tables.NAMES)
    for file in again:
        assert file.read_bytes() == (folder / "tables" / file.name).read_bytes(), file.name
        assert "top-1" not in file.read_text().lower(), file.name
        assert "top1" not in file.read_text(), file.name
    table = pd.read_csv(folder / "tables" / "wave.csv")
    dense = table[table["variant"] == "dense"].iloc[0]
    runs = [made[name].points[-1].test for name in dense["runs"].split()]
    assert dense["n"] == 2
    assert dense["relative_l2"] == pytest.approx(np.mean([t.relative_l2 for t in runs]), rel=1e-5)
    assert dense["relative_l2_10"] == pytest.approx(np.mean([t.rollout[9] for t in runs]), rel=1e-5)
    assert dense["epoch_seconds"] > 0
    assert table.loc[table["block"].isin(["dense", "method"]), "frame_ms"].notna().any()
    grids = table[table["block"] == "solver"]
    assert list(grids["intervals"]) == [15, 30]
    assert (grids["frame_ms"] > 0).all()
    coarse, fine = grids["relative_l2"]
    assert fine < coarse < 1


def test_the_figure_of_fields_is_the_same_from_csv_and_belongs_to_suites_of_fields(
    suite, tmp_path
) -> None:
    folder, _ = suite
    for file in (folder / "tables").glob("*.csv"):
        shutil.copy(file, tmp_path)
    assert "wave" in figures.names({"magnitude"}, ("field",))
    assert "wave" not in figures.names({"magnitude"})
    one = figures.draw("wave", folder / "tables", tmp_path / "one")
    two = figures.draw("wave", tmp_path, tmp_path / "two")
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in two]


@pytest.mark.parametrize(
    "name",
    ["accuracy_density", "accuracy_latency", "controls", "cost_accuracy", "curves", "tie_groups"],
)
def test_the_figures_of_all_suites_show_errors(name, suite, tmp_path, monkeypatch) -> None:
    shown: list[str] = []

    def save(made: Any, *_: Any) -> list[Path]:
        made.canvas.draw()
        axes = made.axes
        texts = [t.get_text() for a in axes for t in (a.xaxis.label, a.yaxis.label, a.title)]
        shown.extend(texts)
        return []

    monkeypatch.setattr(style, "save", save)
    figures.draw(name, suite[0] / "tables", tmp_path)
    assert any("error" in text for text in shown)
    assert not any("top-1" in text or "accuracy" in text for text in shown)


def test_mlflow_is_told_errors_and_no_infinity(suite) -> None:
    point = next(iter(suite[1].values())).points[0]
    wild = point.test.model_copy(update={"rollout": (*point.test.rollout[:19], math.inf)})
    told = dict(content._point(point.model_copy(update={"test": wild})))
    assert told["test_relative_l2"] == point.test.relative_l2
    assert told["test_relative_l2/10_steps"] == point.test.rollout[9]
    assert "test_relative_l2/20_steps" not in told
    assert all(math.isfinite(value) for value in told.values())
    assert not any("top1" in key for key in told)


def test_an_outcome_knows_its_kind_when_it_is_read_back(suite) -> None:
    _, made = suite
    for record in made.values():
        assert Record.model_validate_json(record.model_dump_json()) == record
    flat = Accuracy(top1=0.5, loss=1, ece=0, per_class=(0.5,), samples=2)
    assert flat.score == 0.5
    assert {m.sign for m in MEASURES.values()} == {1, -1}
    assert dataclasses.is_dataclass(MEASURES["field"])
