"""Training weights that the forward pass sees through a function; ending a training early."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench import data, models, rng
from bench.spec import Recipe, RunSpec
from bench.surgery.layers import parts, prunable
from bench.trainer import BudgetExceeded, Trainer

PLAIN = Recipe(epochs=1, lr=0.05, momentum=0, nesterov=False, weight_decay=0, batch_size=64)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root())


@pytest.fixture
def make(digits):
    def made(arch: str = "lenet300", recipe: Recipe = PLAIN) -> Trainer:
        spec = RunSpec(method="magnitude", arch=arch, dataset="digits", finetune=recipe)

        def initial() -> nn.Module:
            with rng.forked("init", arch, 0):
                return models.build(arch, digits.shape, digits.classes)

        lines: list[dict] = []
        trainer = Trainer(spec, digits, torch.device("cpu"), initial, recipe.epochs, lines.append)
        trainer.lines = lines
        return trainer

    return made


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in model.state_dict().items()}


@pytest.mark.parametrize("arch", ["lenet300", "resnet8", "lstm"])
def test_the_identity_trains_to_the_same_bits(make, arch):
    recipe = PLAIN.model_copy(update={"momentum": 0.9, "weight_decay": 5e-4, "epochs": 0.5})
    trained = []
    for through in (None, lambda own: {n: 1 * p for n, p in own.items()}):
        trainer = make(arch, recipe)
        model = trainer.initial()
        trainer.fit(model, through=through)
        trained.append(state(model))
    assert all(torch.equal(a, b) for a, b in zip(*(t.values() for t in trained), strict=True))


@pytest.mark.parametrize("arch", ["lenet300", "lstm"])
def test_masked_weights_keep_their_stored_value_and_the_net_sees_zeros(make, arch):
    trainer = make(arch)
    model = trainer.initial()
    before = state(model)
    masks = {n: torch.rand(w.shape) < 0.5 for n, w in prunable(model).items()}
    seen = []
    model.register_forward_pre_hook(
        lambda net, _: seen.append({n: w.detach().clone() for n, w in prunable(net).items()})
    )
    trainer.fit(model, through=lambda own: {n: own[n] * m for n, m in masks.items()})
    for name, weight in prunable(model).items():
        assert all((values[name][~masks[name]] == 0).all() for values in seen)
        assert torch.equal(weight[~masks[name]], before[name][~masks[name]])
        assert not torch.equal(weight[masks[name]], before[name][masks[name]])


def test_gradients_are_those_of_the_whole_function(make):
    """One step with a trained scale: both get what autograd gives for the written-out loss."""
    trainer = make()
    model = trainer.initial()
    scale = nn.Parameter(torch.tensor(0.7))
    twin, factor = trainer.initial(), scale.detach().clone().requires_grad_()
    images, labels = next(
        iter(trainer.data.train.batches(64, torch.randperm(
            len(trainer.data.train), generator=rng.generator("data", "digits", 0, 10))))
    )  # fmt: skip
    values = {n: p * factor if n == "fc2.weight" else p for n, p in twin.named_parameters()}
    outputs = torch.func.functional_call(twin, values, trainer.data.normalise(images))
    nn.functional.cross_entropy(outputs, labels).backward()
    trainer.fit(
        model,
        1 / trainer.steps(),
        through=lambda own: {"fc2.weight": own["fc2.weight"] * scale},
        groups=({"params": [scale], "lr": 0.5},),
    )
    assert float(scale) == pytest.approx(0.7 - 0.5 * float(factor.grad), rel=1e-5)
    for (name, own), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(own, other - 0.05 * other.grad, atol=1e-7), name


def test_validation_sees_through_the_function_without_gradients(make):
    trainer = make()
    model, asked = trainer.initial(), []

    def blind(own):
        asked.append(torch.is_grad_enabled())
        return {"fc3.weight": own["fc3.weight"] * 0, "fc3.bias": own["fc3.bias"] * 0}

    trainer.fit(model, through=blind)
    assert asked == [True] * trainer.steps() + [False]
    shares = torch.bincount(trainer.data.validation.labels) / len(trainer.data.validation)
    line = next(line for line in trainer.lines if line["event"] == "epoch")
    assert line["validation"] == pytest.approx(float(shares[0]))  # all outputs alike: class 0
    assert model.fc3.weight.any()


def test_a_training_that_ends_early_spends_only_what_it_took(make):
    trainer = make(recipe=PLAIN.model_copy(update={"epochs": 2}))
    model = trainer.initial()
    trainer.fit(model, 1.5, on_step=lambda _, step: step == 5)
    per_epoch = trainer.steps(1)
    assert trainer.step == 5
    assert trainer.ledger.spent["finetune"].epochs == pytest.approx(5 / per_epoch)
    assert trainer.lines[-1]["step"] == 5
    assert math.isfinite(trainer.lines[-1]["loss"])
    left = 2 - 5 / per_epoch
    trainer.fit(model, left)
    assert trainer.step == 2 * per_epoch
    with pytest.raises(BudgetExceeded):
        trainer.fit(model, 0.1)


def test_factors_stand_for_the_layer_that_they_replace(digits):
    dense = models.build("lenet300", digits.shape, digits.classes)
    model = models.build("lenet300", digits.shape, digits.classes)
    model.fc2 = nn.Sequential(nn.Linear(300, 5, bias=False), nn.Linear(5, 100))
    model.fc1 = nn.Identity()
    found = parts(model, dense)
    assert list(found) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert [list(f) for f in found.values()] == [
        [], ["fc2.0.weight", "fc2.1.weight"], ["fc3.weight"]
    ]  # fmt: skip
    model.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"extra\.weight stands in the place of no weight"):
        parts(model, dense)
