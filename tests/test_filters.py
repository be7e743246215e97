"""Filter pruning by norm, by geometric median, and by the scales of batch norms."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from torch import nn

from bench import data
from bench.surgery import PatternError, channels, prunable
from bench.surgery.store import digest
from methods.fpgm import distances, transposed_weights
from methods.slimming import scale_of, scales_of
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def removed(digits, arch, method, start=None, **params):
    """(the net that goes into the first training after the pruning, the start, the bench)."""
    bench = Bench(digits, arch, method, **params)
    start = bench.start() if start is None else start
    seen, trainer = [], bench.trainer()
    with mock.patch.object(trainer, "fit", lambda model, *a, **k: seen.append(model)):
        next(bench.method.compress(copy.deepcopy(start), trainer))
    return seen[-1], start, bench


def survivors(smaller, start, digits) -> dict[str, torch.Tensor]:
    """Set of channels -> which of `start` are in `smaller`, by the weights of their first layer."""
    kept = {}
    for group in channels.groups(start, digits.shape):
        rows = prunable(start)[group.producers[0]].detach().flatten(1)
        left = prunable(smaller)[group.producers[0]].detach().flatten(1)
        if left.shape[1] == rows.shape[1]:  # its inputs are all there: rows can be compared
            kept[group.name] = (rows[:, None] == left[None]).all(2).any(1)
    assert kept
    return kept


def test_filters_go_by_their_l1_norm(digits):
    smaller, start, _ = removed(digits, "resnet8", "filter_norm")
    for name, kept in survivors(smaller, start, digits).items():
        group = next(g for g in channels.groups(start, digits.shape) if g.name == name)
        score = channels.scores(group, {n: w.detach().abs() for n, w in prunable(start).items()})
        assert 0 < int(kept.sum()) < len(kept)
        assert float(score[kept].min()) >= float(score[~kept].max())


def test_the_two_norms_choose_differently(digits):
    start = Bench(digits, "resnet8", "filter_norm").start()
    found = [
        Bench(digits, "resnet8", "filter_norm", p=p).points(copy.deepcopy(start))[0][0]
        for p in (1, 2)
    ]
    assert digest(found[0]) != digest(found[1])


def test_the_filter_nearest_to_the_others_has_the_smallest_distance():
    filters = torch.tensor([[0.0, 0], [3, 4], [0, 1], [0, -1]])
    wanted = [5 + 1 + 1, 5 + 18**0.5 + 34**0.5, 1 + 18**0.5 + 2, 1 + 34**0.5 + 2]
    assert distances(filters).tolist() == pytest.approx(wanted)
    moved = distances(filters.view(4, 1, 2, 1) + 100)
    assert moved.tolist() == pytest.approx(wanted, abs=1e-3)


def test_filters_of_transposed_convolutions_lie_along_the_second_axis():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 3, 3))
    assert transposed_weights(model) == {"1.weight"}


def test_fpgm_keeps_a_small_filter_that_is_unlike_the_others(digits):
    """By norm the small filter would go first; here those go that the others can replace."""
    start = Bench(digits, "resnet8", "fpgm").start()
    weight = prunable(start)["conv1.weight"]  # the sets of the first layer have all their inputs
    with torch.no_grad():
        for name in ("conv1.weight", "stages.0.0.conv2.weight"):
            weight = prunable(start)[name]
            alike = torch.randn(weight[:1].shape, generator=torch.Generator().manual_seed(0))
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            weight.copy_(alike + 0.01 * noise)
            weight[3] = -0.3 * alike[0]
    kept = {
        method: survivors(removed(digits, "resnet8", method, start)[0], start, digits)
        for method in ("fpgm", "filter_norm")
    }
    assert bool(kept["fpgm"]["conv1.weight"][3])
    assert not bool(kept["filter_norm"]["conv1.weight"][3])


def test_the_penalty_of_slimming_lowers_scales(digits):
    small, large = (Bench(digits, "resnet8", "slimming", lam=lam) for lam in (0.0, 0.1))
    found = []
    for bench in (small, large):
        bench.points()
        lines = [line for line in bench.lines if line["event"] == "scales"]
        found.append(sum(line["mean"] for line in lines) / len(lines))
        assert all(line["width"] <= line["of"] for line in lines)
    assert found[1] < 0.9 * found[0]


def test_a_channel_s_scale_is_the_mean_of_the_batch_norms_that_make_it(digits):
    model = Bench(digits, "resnet8", "slimming").initial()
    scales = scales_of(model)
    assert set(scales) == {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)
    }
    with torch.no_grad():
        for order, scale in enumerate(scales.values()):
            scale.copy_(torch.arange(len(scale)) - 100.0 * order)
    for group in channels.groups(model, digits.shape):
        makers = [p.name for p in group.slices if p.name in scales and p.output]
        wanted = torch.stack([scales[name].detach().abs() for name in makers]).mean(0)
        assert torch.allclose(scale_of(group, scales), wanted)


def test_slimming_removes_the_channels_of_smallest_scale_over_all_layers(digits):
    bench = Bench(digits, "resnet8", "slimming")
    model = bench.start()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for scale in scales_of(model).values():
            scale.copy_(torch.rand(scale.shape, generator=draws))
    smaller, _, _ = removed(digits, "resnet8", "slimming", model)
    wanted = {g.name: scale_of(g, scales_of(model)) for g in channels.groups(model, digits.shape)}
    found = survivors(smaller, model, digits)
    kept = torch.cat([wanted[n][k] for n, k in found.items()])
    gone = torch.cat([wanted[n][~k] for n, k in found.items()])
    assert len(gone) > 0
    assert float(kept.min()) >= float(gone.max())


def test_a_density_out_of_reach_is_refused_before_training(digits):
    for method in ("slimming", "taylor"):
        bench = Bench(digits, "resnet8", method, density=0.0005)
        start, trainer = bench.start(), bench.trainer()
        with pytest.raises(PatternError, match="out of reach"):
            next(bench.method.compress(start, trainer))
        assert trainer.epochs_spent == 0


def test_slimming_refuses_a_net_without_batch_norm(digits):
    bench = Bench(digits, "lenet300", "slimming")
    with pytest.raises(PatternError, match="no batch norm"):
        bench.points()
