"""A net seen without some of its columns or channels: what is trained, what is the same."""

from __future__ import annotations

import math

import pytest
import torch

from bench import data
from bench.spec import Recipe
from bench.surgery import Masks, PatternError, prunable
from bench.surgery.views import Channels, Columns, levels
from tests.contract_bench import Bench

PLAIN = Recipe(epochs=0.5, lr=0.05, momentum=0, nesterov=False, weight_decay=0, batch_size=64)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def weights_of(model) -> dict[str, torch.Tensor]:
    return {n: w.detach().clone() for n, w in prunable(model).items()}


@pytest.mark.parametrize("draws", ["group", "element"])
def test_dense_weights_come_back_and_a_masked_group_is_not_moved(digits, draws):
    """One plain step: stored weights with m = 0 keep every bit, those with m = 1 have moved."""
    bench = Bench(digits, "resnet8", "magnitude")
    model = bench.initial()
    trainer = bench.trainer(bench.spec.model_copy(update={"finetune": PLAIN}))
    view, before = Columns(model, digits.shape), weights_of(model)
    draw = torch.Generator().manual_seed(0)
    rows = {n: len(w) if draws == "element" else 1 for n, w in before.items()}
    keep = {n: torch.rand(rows[n], k, generator=draw) < 0.5 for n, k in view.sizes.items()}
    trainer.fit(model, 1 / trainer.steps(1), through=lambda own: view.seen(own, keep))
    for name, after in weights_of(model).items():
        mask = keep[name].view(-1, *after.shape[1:]).expand(after.shape)
        assert torch.equal(after[~mask], before[name][~mask])
        assert not torch.equal(after[mask], before[name][mask])


@pytest.mark.parametrize("arch", ["resnet8", "lstm", "lenet300"])
def test_a_channel_that_is_not_seen_is_as_good_as_removed(digits, arch):
    bench = Bench(digits, arch, "magnitude")
    model = bench.initial().eval()
    view, draw = Channels(model, digits.shape), torch.Generator().manual_seed(1)
    keep = {n: torch.rand(k, generator=draw) < 0.6 for n, k in view.sizes.items()}
    images = digits.normalise(next(digits.test.batches(8))[0])
    own = dict(model.named_parameters())
    seen = torch.func.functional_call(model, own | view.seen(own, keep), images)
    smaller = view.without(keep).eval()(images)
    assert torch.allclose(seen, smaller, atol=1e-5)
    assert not torch.allclose(model(images), smaller, atol=1e-3)


def test_every_layer_loses_its_share_and_all_together_the_density(digits):
    model = Bench(digits, "resnet8", "magnitude").initial()
    view = Columns(model, digits.shape)
    kept, total = view.kept(0.3, {}), sum(w.numel() for w in view.weights.values())
    weight = sum(kept[n] * len(w) for n, w in view.weights.items())
    assert abs(weight - 0.3 * total) <= 64
    assert all(abs(kept[n] - 0.3 * k) <= 1 for n, k in view.sizes.items())
    own = levels(view.sizes, {"conv1.weight": 0.5}, view.linear)
    assert own == {"fc.weight": 64, "conv1.weight": 9 - math.ceil(0.5 * 9)}
    kept = view.kept(0.3, own)
    assert abs(sum(kept[n] * len(w) for n, w in view.weights.items()) - 0.3 * total) <= 64
    with pytest.raises(PatternError, match=r"no layer conv9; there are: conv1.weight"):
        levels(view.sizes, {"conv9": 0.5}, set())
    with pytest.raises(PatternError, match=r"density 0.001 is out of reach"):
        view.kept(0.001, own)


def test_masks_of_columns_hold_them_and_channels_have_none(digits):
    model = Bench(digits, "resnet8", "magnitude").initial()
    keep = {"conv1.weight": torch.arange(9) < 4}
    masks = Columns(model, digits.shape).masks(keep)
    assert masks["conv1.weight"].flatten(1).sum(0).tolist() == [16] * 4 + [0] * 5
    assert Channels(model, digits.shape).masks(keep) == Masks()
