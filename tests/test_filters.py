"""Filter pruning by norm, by geometric median, and by the scales of batch norms."""

from __future__ import annotations

import copy

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


def test_filters_go_by_their_l1_norm_as_magnitude_s_would_layer_by_layer(digits):
    points, _ = Bench(digits, "resnet8", "filter_norm").points()
    other = Bench(digits, "resnet8", "magnitude", pattern="channel", allocation="layerwise")
    start = other.start()
    kept, _ = other.points(start)
    shapes = [[tuple(w.shape) for w in prunable(p[0]).values()] for p in (points, kept)]
    assert shapes[0] == shapes[1]


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


def test_fpgm_removes_a_filter_that_another_one_replaces_before_a_small_but_unlike_one(digits):
    """By norm the small filter would go first; here one of the many alike does."""
    torch.manual_seed(0)
    bench = Bench(digits, "resnet8", "fpgm", density=0.8)
    model = bench.start()
    weight = prunable(model)["stages.0.0.conv1.weight"]
    with torch.no_grad():
        alike = torch.randn_like(weight[:1])
        weight.copy_(alike + 0.01 * torch.randn_like(weight))
        weight[3] = -0.3 * alike[0]
    smallest = int(weight.flatten(1).norm(dim=1).argmin())
    assert smallest == 3
    assert int(distances(weight.detach()).argmax()) == 3


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


def test_slimming_removes_the_channels_of_smallest_scale(digits):
    bench = Bench(digits, "resnet8", "slimming", lam=0.0)
    points, _ = bench.points()
    whole, left = prunable(bench.initial()), prunable(points[0])
    kept = sum(w.numel() for w in left.values()) / sum(w.numel() for w in whole.values())
    assert kept == pytest.approx(0.3, rel=0.25)
    assert any(left[n].shape != w.shape for n, w in whole.items())


def test_slimming_refuses_a_net_without_batch_norm(digits):
    bench = Bench(digits, "lenet300", "slimming")
    with pytest.raises(PatternError, match="no batch norm"):
        bench.points()
