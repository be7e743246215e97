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


@pytest.mark.parametrize("scored", ["all", "some"])
def test_the_best_channels_are_those_above_one_threshold(digits, scored):
    view = Channels(Bench(digits, "resnet8", "magnitude").initial(), digits.shape)
    names = list(view.sizes)[:: 1 if scored == "all" else 2]
    draw = torch.Generator().manual_seed(2)
    scores = {n: torch.rand(view.sizes[n], generator=draw) for n in names}
    density = 0.3 if scored == "all" else 0.7
    keep = view.best(scores, density)
    assert list(keep) == names
    gone = torch.cat([scores[n][~k] for n, k in keep.items()])
    # but for the last one of a set, which always stays
    stay = torch.cat([scores[n][k] for n, k in keep.items() if k.sum() > 1])
    assert 0 < gone.max() <= stay.min()
    net, _ = view.without(keep)
    left = sum(w.numel() for w in prunable(net).values())
    assert left / sum(w.numel() for w in prunable(view.model).values()) == pytest.approx(
        density, abs=0.02
    )
    with pytest.raises(PatternError, match="out of reach"):
        view.best(scores, 1e-4)


@pytest.mark.parametrize("arch", ["resnet8", "lstm", "lenet300"])
def test_a_channel_that_is_not_seen_is_as_good_as_removed(digits, arch):
    bench = Bench(digits, arch, "magnitude")
    model = bench.initial().eval()
    view, draw = Channels(model, digits.shape), torch.Generator().manual_seed(1)
    keep = {n: torch.rand(k, generator=draw) < 0.6 for n, k in view.sizes.items()}
    images = digits.normalise(next(digits.test.batches(8))[0])
    own = dict(model.named_parameters())
    seen = torch.func.functional_call(model, own | view.seen(own, keep), images)
    net, masks = view.without(keep)
    assert masks == Masks()  # what is gone needs none
    smaller = net.eval()(images)
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


def test_without_columns_they_are_zero_and_the_masks_hold_them(digits):
    model = Bench(digits, "resnet8", "magnitude").initial()
    net, masks = Columns(model, digits.shape).without({"conv1.weight": torch.arange(9) < 4})
    assert net is model
    assert list(masks) == ["conv1.weight"]
    assert masks["conv1.weight"].flatten(1).sum(0).tolist() == [16] * 4 + [0] * 5
    assert torch.equal(prunable(net)["conv1.weight"] != 0, masks["conv1.weight"])


@pytest.mark.parametrize("kind", [Columns, Channels])
def test_levels_of_all_layers_are_refused_where_they_miss_the_density(digits, kind):
    """By more than a unit; with a set to spare the search may be a quarter off."""
    model = Bench(digits, "lenet300", "magnitude").initial()
    view, total = kind(model, digits.shape), sum(w.numel() for w in prunable(model).values())
    fixed = {n: k // 2 for n, k in view.sizes.items()}
    net, _ = view.without({n: torch.arange(k) < fixed[n] for n, k in view.sizes.items()})
    reached = sum(int(w.count_nonzero()) for w in prunable(net).values()) / total
    assert view.kept(reached, fixed) == fixed
    with pytest.raises(PatternError, match=rf"density {1.1 * reached:g} is out of reach: .*own"):
        view.kept(1.1 * reached, fixed)


@pytest.mark.parametrize("kind", [Columns, Channels])
def test_norms_are_those_of_the_layers_asked_for(digits, kind):
    model = Bench(digits, "lenet300", "magnitude").initial()
    view = kind(model, digits.shape)
    (name, weight), *_ = prunable(model).items()
    found = view.norms([name])
    assert list(found) == [name]
    assert torch.allclose(found[name], weight.detach().abs().sum(0 if kind is Columns else 1))
