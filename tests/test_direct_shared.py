"""The direct path where outputs share their inputs: one load serves several."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.latency.gate import distance
from bench.products import blocks, direct
from bench.surgery import prune, uniform

from .test_lowering import COMPILER

pytestmark = COMPILER

LAYERS = {
    "3x3": (lambda: nn.Conv2d(5, 32, 3, padding=1), (5, 13, 9)),
    "3x3, stride 2, no bias": (lambda: nn.Conv2d(5, 16, 3, stride=2, bias=False), (5, 13, 18)),
    "3x3, dilated": (lambda: nn.Conv2d(5, 16, 3, dilation=2), (5, 23, 40)),
    "1x1": (lambda: nn.Conv2d(40, 48, 1), (40, 7, 7)),
    "1x1, whole vectors": (lambda: nn.Conv2d(40, 48, 1), (40, 8, 8)),
    "7x7, stride 2": (lambda: nn.Conv2d(3, 16, 7, stride=2, padding=3), (3, 33, 31)),
    "2 groups": (lambda: nn.Conv2d(6, 32, 3, groups=2), (6, 9, 20)),
    "linear": (lambda: nn.Linear(50, 32), (50,)),
}


@pytest.fixture
def most():
    """Outputs that the compiled code serves with one load."""
    found = direct.functions().sharing()
    assert found in (1, 4)
    return found


def pruned(name, pattern, density=0.2):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    net = nn.Sequential(make()).eval()
    scores = uniform(net, torch.Generator().manual_seed(0))
    prune(net, scores, density, pattern=pattern, allocation="layerwise", shape=shape)
    return net[0], shape


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pattern", ["k-of-n:16", "k-of-n:4", "block:16x1", "column"])
@pytest.mark.parametrize("name", LAYERS)
def test_shared_lists_compute_what_the_layer_computes(name, pattern, threads, most):
    layer, shape = pruned(name, pattern)
    made, before = direct.Direct(layer), torch.get_num_threads()
    assert made.shared == most
    assert made.values.size == int(layer.weight.count_nonzero())
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for batch in (1, 2, 5):
                x = torch.randn(batch, *shape)
                wanted = layer(x)
                assert distance(made(x), wanted) < 1e-6
                if made.adds:
                    add = torch.randn_like(wanted)
                    assert distance(made(x, add), wanted + add) < 1e-6
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", LAYERS)
def test_shared_lists_are_those_of_each_output(name, most):
    """Against the same weights listed output by output."""
    layer, shape = pruned(name, "k-of-n:16")
    together, alone = direct.Direct(layer), unshared(layer)
    assert alone.shared == 1
    assert len(alone.rows) == most * len(together.rows) == int(layer.weight.count_nonzero())
    with torch.inference_mode():
        for batch in (1, 3):
            x = torch.randn(batch, *shape)
            assert distance(together(x), alone(x)) < 1e-6


def unshared(layer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "WASTE", 0)
        return direct.Direct(layer)


def test_outputs_that_share_too_little_have_lists_of_their_own():
    layer, shape = pruned("3x3", "k-of-n:16")
    layer.weight.data[::2, :, 0] = 0
    made, x = direct.Direct(layer), torch.randn(2, *shape)
    assert made.shared == 1
    with torch.inference_mode():
        assert distance(made(x), layer(x)) < 1e-6


def test_a_few_missing_weights_are_stored_as_zeros(most):
    layer, shape = pruned("3x3", "k-of-n:16")
    at = layer.weight.detach().flatten().nonzero()[0]
    layer.weight.data.view(-1)[at] = 0
    made, x = direct.Direct(layer), torch.randn(2, *shape)
    assert made.shared == most
    with torch.inference_mode():
        assert distance(made(x), layer(x)) < 1e-6


def test_a_layer_without_a_weight_gives_its_bias():
    layer, shape = pruned("3x3", "k-of-n:16")
    layer.weight.data[:] = 0
    with torch.inference_mode():
        found = direct.Direct(layer)(torch.randn(2, *shape))
    assert torch.equal(found, layer.bias[:, None, None].expand_as(found))
