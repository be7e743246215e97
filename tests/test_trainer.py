"""Training: its cost is counted once and kept within the budget; its result is reproducible."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import data, method, models, rng, schedule
from bench.data import Dataset, task
from bench.run import Work
from bench.schedule import Batches, factor
from bench.spec import Recipe, RunSpec
from bench.surgery import Masks, prunable
from bench.trainer import BudgetExceeded, Trainer, TrainingFailed

TRAIN = Recipe(epochs=2, lr=0.05, batch_size=64)
FINETUNE = Recipe(epochs=2, lr=0.02, batch_size=64)
PLAIN = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "schedule": "constant"}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", data.root())


@pytest.fixture
def make(digits: Dataset) -> Callable[..., Trainer]:
    """A trainer of `dense` or of `magnitude` on digits; its history is in `.lines`."""

    def made(
        dense: bool = False, arch: str = "lenet300", budget: float | None = None, **fields: Any
    ) -> Trainer:
        fields.setdefault("train", TRAIN)
        fields["finetune"] = None if dense else fields.get("finetune", FINETUNE)
        name = "dense" if dense else "magnitude"
        spec = RunSpec(method=name, arch=arch, dataset="digits", **fields)

        def initial() -> nn.Module:
            with rng.forked("init", arch, spec.seed):
                return models.build(arch, digits.shape, digits.classes)

        lines: list[dict[str, Any]] = []
        own = TRAIN.epochs if dense else FINETUNE.epochs
        trainer = Trainer(
            spec, digits, torch.device("cpu"), initial, own if budget is None else budget,
            lines.append,
        )  # fmt: skip
        trainer.lines = lines  # type: ignore[attr-defined]
        return trainer

    return made


def per_epoch(digits: Dataset, recipe: Recipe = TRAIN) -> int:
    return len(digits.train) // recipe.batch_size


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


# --- ledger and budget


def test_the_ledger_sums_to_what_was_trained(make, digits) -> None:
    trainer = make(budget=4)
    model = trainer.initial()
    steps: list[int] = []
    trainer.fit(model, 1.5, on_step=lambda _, step: steps.append(step))
    trainer.fit(model, 2.25, on_step=lambda _, step: steps.append(step))
    taken, spent = len(steps), trainer.ledger.spent["finetune"]
    assert taken == round(3.75 * per_epoch(digits))
    assert spent.epochs == pytest.approx(taken / per_epoch(digits))
    assert spent.samples == taken * 64
    assert spent.seconds > 0
    assert trainer.epochs_spent == spent.epochs
    assert set(trainer.ledger.spent) == {"finetune"}


def test_fractional_trainings_together_take_the_steps_of_one_and_no_more(make, digits) -> None:
    trainer = make()
    model, taken = trainer.initial(), []
    for _ in range(7):
        trainer.fit(model, 2 / 7, on_step=lambda *_: taken.append(1))
    assert len(taken) == 2 * per_epoch(digits)
    with pytest.raises(BudgetExceeded, match=r"magnitude asks for 2\.1 epochs; its budget is 2"):
        trainer.fit(model, 0.1)
    assert len(taken) == 2 * per_epoch(digits)


def test_short_trainings_go_on_where_the_last_ended(make) -> None:
    recipe = FINETUNE.model_copy(update=PLAIN)
    one, two = make(finetune=recipe), make(finetune=recipe)
    whole, parts = one.initial(), two.initial()
    one.fit(whole, 2)
    for epochs in (0.3, 0.7, 1):
        two.fit(parts, epochs)
    assert same(state(whole), state(parts))


def test_a_batch_depends_on_the_number_of_its_step_alone(digits) -> None:
    batches = Batches(digits, 3, TRAIN.model_copy(update={"augment": ("crop", "flip")}))
    steps = batches.per_epoch + 4
    whole = list(batches.take(0, steps))
    tail = list(batches.take(5, steps - 5))
    assert len(whole) == steps
    assert all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(whole[5:], tail, strict=True)
    )
    assert not torch.equal(whole[0][0], next(iter(Batches(digits, 4, TRAIN).take(0, 1)))[0])


def test_an_epoch_shows_no_sample_twice(digits) -> None:
    batches = Batches(digits, 0, TRAIN)
    for epoch in (0, 1):
        order = batches._order(epoch)
        assert sorted(order.tolist()) == list(range(len(digits.train)))
    assert not torch.equal(batches._order(0), batches._order(1))


@pytest.mark.parametrize(
    ("tier", "start", "curve", "budget"),
    [
        ("equal", "dense", (), 2), ("equal", "dense", (0.5, 0.2, 0.1), 6),
        ("equal", "init", (), 4), ("paper", "dense", (), math.inf), ("paper", "init", (), math.inf),
    ],
)  # fmt: skip
def test_the_budget_is_that_of_the_tier(tier, start, curve, budget) -> None:
    spec = RunSpec(method="magnitude", arch="lenet300", dataset="digits", tier=tier,
                   train=TRAIN, finetune=FINETUNE, densities=curve)  # fmt: skip
    assert Work.budget(SimpleNamespace(spec=spec, method_class=SimpleNamespace(start=start))) == (
        budget
    )


def test_rounds_share_the_equal_budget_and_are_whole_trainings_in_the_paper_tier(make) -> None:
    equal = make(densities=(0.5, 0.2))
    assert equal.epochs(4) == 1  # two densities pay for two trainings of two epochs
    assert equal.rounds(30) == 4
    paper = make(densities=(0.5, 0.2), tier="paper", budget=math.inf)
    assert paper.epochs(4) == 2
    assert paper.rounds(30) == 30
    model = paper.initial()
    for _ in range(3):
        paper.fit(model, phase="finetune")
    assert paper.epochs_spent == pytest.approx(6)


def test_seconds_inside_a_training_are_counted_once(make) -> None:
    trainer = make()

    def score(model: nn.Module, step: int) -> None:
        if step <= 5:
            with trainer.spend("score"):
                time.sleep(0.04)

    started = time.perf_counter()
    trainer.fit(trainer.initial(), on_step=score)
    wall = time.perf_counter() - started
    total = sum(spent.seconds for spent in trainer.ledger.spent.values())
    assert trainer.ledger.spent["score"].seconds >= 0.2
    assert total + trainer.ledger.uncharged <= wall
    assert trainer.ledger.spent["finetune"].seconds <= wall - 0.2


def test_validation_is_not_charged_wherever_it_happens(make, monkeypatch) -> None:
    trainer = make()
    real = task.accuracy

    def slow(*arguments: Any) -> Any:
        time.sleep(0.15)
        return real(*arguments)

    def look(model: nn.Module, step: int) -> None:
        if step == 2:
            trainer.validate(model)

    monkeypatch.setattr(task, "accuracy", slow)
    started = time.perf_counter()
    trainer.fit(trainer.initial(), on_step=look)  # validates after each of its two epochs, too
    trainer.validate(trainer.initial())
    wall = time.perf_counter() - started
    assert trainer.ledger.uncharged >= 0.6
    assert sum(spent.seconds for spent in trainer.ledger.spent.values()) <= wall - 0.6


def test_history_has_a_line_for_every_epoch_begun(make, digits) -> None:
    trainer = make()
    trainer.fit(trainer.initial(), 1.5)
    lines = trainer.lines
    assert [line["step"] for line in lines] == [per_epoch(digits), round(1.5 * per_epoch(digits))]
    assert lines[-1]["epoch"] == pytest.approx(trainer.epochs_spent, abs=1e-3)
    assert all(0 <= line["validation"] <= 1 and math.isfinite(line["loss"]) for line in lines)


# --- rewinding


@pytest.mark.parametrize("arch", ["lenet300", "resnet8"])
def test_rewound_weights_are_those_of_the_dense_run_bit_for_bit(arch, make, digits) -> None:
    steps = (1, 5, per_epoch(digits), per_epoch(digits) + 3, 2 * per_epoch(digits))
    dense, seen = make(dense=True, arch=arch), {}
    model = dense.initial()
    seen[0] = state(model)

    def capture(model: nn.Module, step: int) -> None:
        if step in steps:
            seen[step] = state(model)

    dense.fit(model, phase="pretrain", on_step=capture)
    for step in (0, *steps):
        other = make(arch=arch)
        assert same(other.rewound(step), seen[step]), step
    assert not same(seen[0], seen[1])
    assert same(make(arch=arch).rewound(10**6), state(model))  # past the end is the end


def test_rewinding_trains_but_takes_nothing_from_the_budget(make) -> None:
    trainer = make()
    trainer.rewound(10)
    assert trainer.ledger.spent["pretrain"].samples == 10 * 64
    assert trainer.epochs_spent == 0
    trainer.fit(trainer.initial(), 2)


# --- masks


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_masks_that_change_while_training_hold_their_zeros(optimizer, make) -> None:
    trainer = make(finetune=FINETUNE.model_copy(update={"optimizer": optimizer}))
    model, masks = trainer.initial(), Masks()
    checked: list[int] = []

    def tighten(model: nn.Module, step: int) -> None:
        for name, mask in masks.items():
            assert not prunable(model)[name][~mask].any(), (name, step)
            checked.append(step)
        if step in (3, 11, 25):
            for name, weight in prunable(model).items():
                masks[name] = weight.detach().abs() > weight.detach().abs().flatten().median()
            masks.apply_(model)

    trainer.fit(model, masks=masks, on_step=tighten)
    assert set(checked) == set(range(4, trainer.steps() + 1))
    assert all(0 < int(mask.sum()) < mask.numel() for mask in masks.values())
    for name, weight in prunable(model).items():
        assert not weight[~masks[name]].any()
        assert weight[masks[name]].all()  # the kept ones are trained


def test_a_collapsed_layer_fails_with_its_name(make) -> None:
    trainer = make()
    model = trainer.initial()
    name = next(reversed(prunable(model)))
    masks = Masks({name: torch.zeros_like(prunable(model)[name], dtype=torch.bool)})
    with pytest.raises(TrainingFailed, match=f"layer collapse: no weight is left in {name}"):
        trainer.fit(model, masks=masks)
    assert trainer.epochs_spent == 0


# --- schedules and optimisers


def test_cosine_falls_from_the_peak_to_nearly_nothing() -> None:
    recipe = Recipe(schedule="cosine")
    values = [factor(step, 100, 10, recipe) for step in range(100)]
    assert values[0] == 1
    assert values[50] == pytest.approx(0.5)
    assert values[25] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert 0 < values[99] < 0.001
    assert values == sorted(values, reverse=True)


def test_steps_multiply_by_gamma_at_each_milestone() -> None:
    recipe = Recipe(schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    values = [factor(step, 100, 10, recipe) for step in (0, 49, 50, 74, 75, 99)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_warm_up_rises_in_a_line_and_meets_the_schedule_at_its_peak(kind) -> None:
    recipe = Recipe(schedule=kind, warmup=2)
    values = [factor(step, 100, 10, recipe) for step in range(100)]
    assert values[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert values[20] == 1
    assert values[99] == (1 if kind == "constant" else pytest.approx(0, abs=1e-3))


def test_the_learning_rate_of_each_epoch_is_that_of_the_schedule(make, digits) -> None:
    recipe = FINETUNE.model_copy(update={"epochs": 4, "warmup": 1})
    trainer = make(finetune=recipe, budget=4)
    trainer.fit(trainer.initial())
    size = per_epoch(digits)
    assert [line["lr"] for line in trainer.lines] == pytest.approx(
        [recipe.lr * factor(epoch * size - 1, 4 * size, size, recipe) for epoch in (1, 2, 3, 4)]
    )


def test_clipping_bounds_each_step(make) -> None:
    recipe = Recipe(epochs=0.5, lr=0.1, clip=0.01, batch_size=64, **PLAIN)
    trainer = make(finetune=recipe)
    model = trainer.initial()
    path = [nn.utils.parameters_to_vector(model.parameters()).detach().double()]
    trainer.fit(
        model,
        on_step=lambda m, _: path.append(
            nn.utils.parameters_to_vector(m.parameters()).detach().double()
        ),
    )
    moved = [float((b - a).norm()) for a, b in itertools.pairwise(path)]
    assert moved == pytest.approx([0.1 * 0.01] * len(moved), rel=1e-2)


def test_a_loss_that_is_no_number_fails_with_phase_and_step(make, digits) -> None:
    trainer = make(finetune=FINETUNE.model_copy(update={"lr": 1e30}))
    with pytest.raises(TrainingFailed, match=r"the loss is (nan|inf) in finetune at step \d+"):
        trainer.fit(trainer.initial())


def test_bf16_trains_and_keeps_weights_in_fp32(make) -> None:
    ends = {}
    for precision in ("fp32", "bf16"):
        trainer = make(finetune=FINETUNE.model_copy(update={"precision": precision, "lr": 0.1}))
        model = trainer.initial()
        trainer.fit(model)
        assert trainer.lines[-1]["validation"] > 0.8
        assert all(p.dtype == torch.float32 for p in model.parameters())
        ends[precision] = state(model)
    assert not same(ends["fp32"], ends["bf16"])


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_an_optimiser_is_the_one_of_the_recipe_and_groups_have_their_own_lr(kind) -> None:
    model = nn.Linear(4, 3)
    recipe = Recipe(optimizer=kind, lr=0.1, momentum=0.8, weight_decay=0.01)
    group = {"params": [model.bias], "lr": 0.5, "weight_decay": 0.0}
    made = schedule.optimizer(model, recipe, [group])
    assert type(made) is {"sgd": torch.optim.SGD, "adam": torch.optim.Adam,
                          "adamw": torch.optim.AdamW}[kind]  # fmt: skip
    own, apart = made.param_groups
    assert [id(p) for p in own["params"]] == [id(model.weight)]
    assert [id(p) for p in apart["params"]] == [id(model.bias)]
    assert (own["lr"], own["weight_decay"], own["peak_lr"]) == (0.1, 0.01, 0.1)
    assert (apart["lr"], apart["weight_decay"], apart["peak_lr"]) == (0.5, 0.0, 0.5)
    assert own["momentum" if kind == "sgd" else "betas"] == (0.8 if kind == "sgd" else (0.8, 0.999))


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_the_schedule_scales_a_groups_own_learning_rate(kind, make, monkeypatch) -> None:
    trainer = make(finetune=FINETUNE.model_copy(update={"optimizer": kind, "weight_decay": 0}))
    gate, caught = nn.Parameter(torch.ones(1)), []
    real = schedule.optimizer

    def catch(*arguments: Any) -> torch.optim.Optimizer:
        caught.append(real(*arguments))
        return caught[-1]

    monkeypatch.setattr(schedule, "optimizer", catch)
    rates: list[tuple[float, ...]] = []
    trainer.fit(
        trainer.initial(),
        penalty=lambda _: gate.sum(),
        groups=[{"params": [gate], "lr": 0.002}],
        on_step=lambda *_: rates.append(tuple(g["lr"] for g in caught[0].param_groups)),
    )
    assert rates[0] == (0.02, 0.002)
    assert all(own == pytest.approx(10 * apart) for own, apart in rates)
    assert rates[-1][0] < 0.02 / 100
    assert gate.item() < 1  # the penalty pulled it down


def test_a_penalty_is_part_of_what_is_minimised(make) -> None:
    ends = []
    for strength in (0.0, 0.1):
        trainer = make()
        model = trainer.initial()
        trainer.fit(
            model,
            penalty=lambda m, s=strength: s * sum(w.abs().sum() for w in prunable(m).values()),
        )
        ends.append(float(sum(w.detach().abs().sum() for w in prunable(model).values())))
    assert ends[1] < 0.5 * ends[0]


# --- what methods ask of a trainer


def test_gradients_are_those_of_the_mean_loss_and_leave_the_model_alone(make, digits) -> None:
    trainer = make(arch="resnet8")
    model = trainer.initial()
    before = state(model)
    found = trainer.gradients(model, samples=150)
    assert same(before, state(model))
    assert model.training
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert trainer.ledger.spent["score"].samples == 150
    order = torch.randperm(len(digits.train), generator=trainer.generator("samples"))[:150]
    images, labels = next(digits.train.batches(150, order))
    model.eval()
    loss = nn.functional.cross_entropy(model(digits.normalise(images)), labels)
    exact = torch.autograd.grad(loss, list(prunable(model).values()))
    for (name, gradient), reference in zip(found.items(), exact, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("count", [None, 1, 63, 64, 65, 129, 193, 200])
def test_scoring_samples_are_as_many_as_asked_and_never_one_alone(count, make) -> None:
    trainer = make()
    sizes = [len(targets) for _, targets in trainer.samples(count)]
    assert sum(sizes) == (count or 64)
    assert max(sizes) <= 64
    assert min(sizes) > 1 or count == 1


def test_what_is_remembered_as_pruned_does_not_train_on(make) -> None:
    trainer = make()
    model = trainer.initial()
    before = state(model)
    trainer.pruned(model)
    trainer.fit(model)
    assert same(state(trainer.before), before)
    assert not same(state(model), before)


def test_a_methods_draws_do_not_move_the_data(make) -> None:
    quiet, noisy = make(), make()
    a, b = quiet.initial(), noisy.initial()
    torch.rand(1000, generator=noisy.generator())
    torch.rand(77)
    quiet.fit(a)
    noisy.fit(b)
    assert same(state(a), state(b))


def test_every_method_that_rewinds_asks_for_its_own_schedule_only_here() -> None:
    """Only methods that start over may; others would get a second dense training for nothing."""
    assert {n for n in method.names() if method.load(n).rewinds} <= {
        n for n in method.names() if method.load(n).iterative
    }
