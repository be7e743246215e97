"""Paths that turn layers into sparse products: the same outputs, whatever the layer's shape."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bench import kernels, models
from bench.latency.gate import distance, gate
from bench.latency.machine import flushed
from bench.latency.prepare import Cell, Variant, prepare
from bench.products import compiled, lowering
from bench.surgery import prunable

COMPILER = pytest.mark.skipif(not compiled.compiler(), reason="there is no C++ compiler")
PATHS = ("csr", "embedding_bag", pytest.param("direct", marks=COMPILER))
LAYERS = {
    "3x3": (nn.Conv2d, (6, 18, 3), {"padding": 1}),
    "1x1": (nn.Conv2d, (6, 18, 1), {}),
    "1x1, stride 2": (nn.Conv2d, (6, 18, 1), {"stride": 2}),
    "1x1, padded": (nn.Conv2d, (6, 18, 1), {"padding": 1}),
    "7x7, stride 2, no bias": (nn.Conv2d, (6, 18, 7), {"stride": 2, "padding": 3, "bias": False}),
    "3x1, uneven strides": (nn.Conv2d, (6, 7, (3, 1)), {"stride": (1, 2), "padding": (1, 0)}),
    "3 groups, dilated": (nn.Conv2d, (6, 18, 3), {"groups": 3, "dilation": 2}),
    "depthwise": (nn.Conv2d, (6, 12, 3), {"groups": 6, "padding": 1}),
    "one output": (nn.Conv2d, (6, 1, 3), {"padding": 1}),
    "linear": (nn.Linear, (11, 7), {}),
    "linear, no bias": (nn.Linear, (11, 7), {"bias": False}),
}


def pruned(layer, density, seed=0):
    """`layer` with just that share of its weights left, to the count."""
    weight, draw = layer.weight.data, torch.Generator().manual_seed(seed)
    gone = torch.randperm(weight.numel(), generator=draw)[round(density * weight.numel()) :]
    weight.view(-1)[gone] = 0
    return layer


def layer_of(name):
    kind, sizes, options = LAYERS[name]
    torch.manual_seed(0)
    return kind(*sizes, **options)


def inputs_of(layer, batch):
    torch.manual_seed(1)
    return (
        torch.randn(batch, 5, 11) if isinstance(layer, nn.Linear) else torch.randn(batch, 6, 13, 9)
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_product_computes_what_its_layer_computes(path, name):
    for density in (0.0, 0.02, 0.1, 0.5):
        layer = pruned(layer_of(name), density)
        for batch in (1, 3):
            x = inputs_of(layer, batch)
            with torch.inference_mode():
                made = kernels.load(path).convert(copy.deepcopy(layer))
                assert type(made) is not type(layer)
                found, wanted = made(x), layer(x)
            assert found.shape == wanted.shape
            assert distance(found, wanted) < 1e-6 or wanted.norm() == 0 == found.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_reordered_weights_compute_what_the_layer_computes(name, dtype):
    layer = layer_of(name)
    for batch in (1, 3):
        x = inputs_of(layer, batch)
        with torch.inference_mode():
            wanted, own = layer(x), copy.deepcopy(layer).to(dtype)
            plain = distance(own(x.to(dtype)), wanted)
            made = kernels.load("onednn").convert(own)
            for _ in range(2):
                assert distance(made(x.to(dtype)), wanted) < max(1e-6, 1.5 * plain)


@pytest.mark.parametrize("name", ["3x3", "depthwise", "linear"])
def test_bags_in_bf16_round_no_worse_than_the_dense_kernel(name):
    layer = pruned(layer_of(name), 0.3)
    x = inputs_of(layer, 2)
    with torch.inference_mode():
        wanted = layer(x)
        half = copy.deepcopy(layer).bfloat16()
        plain = distance(half(x.bfloat16()), wanted)
        found = kernels.load("embedding_bag").convert(half)(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert distance(found, wanted) < 1.5 * plain


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_stored_are_the_weights_that_are_left(name):
    layer = pruned(layer_of(name), 0.4)
    stored = lowering.csr(layer)
    assert len(stored.values()) == int(layer.weight.count_nonzero())
    assert sorted(stored.values().tolist()) == sorted(layer.weight[layer.weight != 0].tolist())
    bags = kernels.load("embedding_bag").convert(layer).product
    assert torch.equal(bags.values, stored.values())


class Odd(nn.Linear):
    """A linear layer of another class, which may do more than multiply."""


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (pruned(nn.Conv2d(4, 4, 3), 0.51), "keeps more than 50 % of its weights"),
        (pruned(nn.Conv1d(4, 4, 3), 0.1), "Conv1d is no plain linear layer"),
        (pruned(nn.ConvTranspose2d(4, 4, 3), 0.1), "ConvTranspose2d is no plain"),
        (pruned(Odd(9, 9), 0.1), "Odd is no plain"),
        (pruned(nn.Conv2d(4, 4, 3, padding="same"), 0.1), "'same' is not implemented"),
        (pruned(nn.Conv2d(4, 4, 3, padding_mode="reflect", padding=1), 0.1), "reflect"),
        (nn.LSTM(4, 4), "LSTM is no plain"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_layer_that_is_not_for_it_stays_and_the_reason_says_why(path, layer, reason):
    kernel = kernels.load(path)
    able, why = kernel.supports(layer, "layer")
    assert not able
    assert reason in why
    net = nn.Sequential(layer)
    assert kernel.convert(net)[0] is layer


class Tied(nn.Module):
    """The same layer in two places."""

    def __init__(self):
        super().__init__()
        self.first = pruned(nn.Linear(8, 8), 0.25)
        self.second = self.first

    def forward(self, x):
        return self.second(self.first(x).relu())


@pytest.mark.parametrize("path", PATHS)
def test_a_layer_in_two_places_is_converted_in_both_and_once(path):
    net = Tied()
    x = torch.randn(3, 8)
    with torch.inference_mode():
        made = kernels.load(path).convert(copy.deepcopy(net))
        assert made.first is made.second
        assert torch.allclose(made(x), net(x), atol=1e-6)


ARCHS = {
    "lenet5": (1, 28, 28),
    "resnet8": (3, 16, 16),
    "vgg16_bn": (3, 32, 32),
    "lstm": (1, 8, 8),
    "timm:mobilenetv2_050": (3, 64, 64),
    "timm:vit_tiny_patch16_224": (3, 224, 224),
    "timm:convnext_atto": (3, 64, 64),
}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("path", [*PATHS, "onnxruntime", "onednn"])
def test_whole_nets_pass_the_gate(path, arch):
    """Folded and converted as for a measurement; half of the layers at 10 %, the others dense."""
    shape = ARCHS[arch]
    torch.manual_seed(0)
    net = models.build(arch, shape, 10).eval()
    chosen = [n for n, m in net.named_modules() if type(m) in (nn.Linear, nn.Conv2d)][::2]
    for name in chosen:
        pruned(net.get_submodule(name), 0.1)
    cell, kernel = Cell("cpu", "fp32", 2, torch.get_num_threads()), kernels.load(path)
    x = torch.randn(2, *shape)
    with torch.inference_mode():
        side = prepare(net, kernel, cell, Variant("eager", "nchw"), x)
        assert gate(net, cell, x).check(side) < 1e-5


@pytest.mark.parametrize("path", PATHS)
def test_an_unpruned_net_comes_through_as_it_is(path):
    net = models.build("resnet8", (1, 8, 8), 10).eval()
    kernel = kernels.load(path)
    before = {name: type(module) for name, module in net.named_modules()}
    assert {n: type(m) for n, m in kernel.convert(net).named_modules()} == before
    able, reason = kernel.applies(net, net, "cpu", "fp32")
    assert not able
    assert "keeps more than 50 % of its weights" in reason
    for weight in prunable(net).values():
        weight.data *= torch.rand_like(weight) < 0.05
    assert kernel.applies(net, net, "cpu", "fp32") == (True, "")


def test_a_missing_package_is_a_reason(monkeypatch):
    path = kernels.load("onnxruntime")
    assert path.baseline
    assert path.supports(nn.Linear(2, 2), "") == (True, "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    assert path.applies(nn.Linear(2, 2), nn.Linear(2, 2), "cpu", "fp32") == (
        False,
        "not installed: onnx",
    )


def test_a_session_leaves_the_threads_numbers_as_they_were():
    """ONNX Runtime makes sub-normals zero in the thread that makes a session."""
    tiny, net = torch.full((8,), 1e-40), nn.Sequential(nn.Linear(4, 4)).eval()
    with torch.inference_mode():
        kernels.load("onnxruntime").convert(net)(torch.randn(2, 4))
        assert (tiny * 1).count_nonzero() == 8
        with flushed():
            kernels.load("onnxruntime").convert(net)(torch.randn(3, 4))
            assert (tiny * 1).count_nonzero() == 0
