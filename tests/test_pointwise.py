"""Paths over tokens: 2:4 and blocks. What they take, what they refuse, and the same outputs."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from bench import kernels, models
from bench.kernels.bsr_tuned import known
from bench.latency.gate import distance, gate
from bench.latency.prepare import Cell, Variant, prepare
from bench.products import blocks, pointwise, two_four
from bench.surgery import prune, uniform

GPU_PATHS = ("cusparselt", "cutlass", "bsr", "csr", "embedding_bag")


def with_pattern(layer, pattern, density, shape):
    """`layer` in a chain, pruned at random in that pattern."""
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(layer)
    scores = uniform(net, draw)
    made, _ = prune(net, scores, density, pattern=pattern, uneven="dense", shape=shape)
    return made[0].eval()


LAYERS = {
    "linear": (lambda: nn.Linear(128, 64), (3, 5, 128)),
    "linear, no bias": (lambda: nn.Linear(128, 192, bias=False), (7, 128)),
    "1x1": (lambda: nn.Conv2d(128, 64, 1), (2, 128, 5, 7)),
    "1x1, stride 2": (lambda: nn.Conv2d(64, 128, 1, stride=2, bias=False), (2, 64, 9, 7)),
}


def case(name, pattern, density):
    torch.manual_seed(0)
    make, size = LAYERS[name]
    shape = size[1:] if len(size) == 4 else (size[-1],)
    return with_pattern(make(), pattern, density, shape), torch.randn(size)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("pattern", "side"), [("block:16x16", 16), ("block:32x32", 32)])
def test_blocks_compute_what_their_layer_computes(name, pattern, side):
    for density in (0.125, 0.5):
        layer, x = case(name, pattern, density)
        with torch.inference_mode():
            made = kernels.load("bsr").convert(copy.deepcopy(layer))
            assert isinstance(made, pointwise.Pointwise)
            assert made.product.side == side
            assert int(made.product.matrix.values().count_nonzero()) == int(
                layer.weight.count_nonzero()
            )
            if x.dim() == 4:
                x = x.to(memory_format=torch.channels_last)
            found, wanted = made(x), layer(x)
        assert found.shape == wanted.shape
        assert distance(found, wanted) < 1e-6


@pytest.mark.parametrize("name", ["linear", "linear, no bias"])
def test_a_layer_without_maps_is_prepared_in_any_layout(name):
    layer, x = case(name, "block:16x16", 0.5)
    cell, path = Cell("cpu", "fp32", len(x), 1), kernels.load("bsr")
    with torch.inference_mode():
        side = prepare(layer, path, cell, Variant("eager", "nhwc"), x)
        assert gate(layer, cell, x).check(side) < 1e-5


def test_the_largest_blocks_that_waste_nothing_are_taken():
    weight = torch.zeros(128, 128)
    weight[:64, :64] = 1
    assert blocks.side_of(weight) == 64
    weight[0, 127] = 1  # one more weight would need a block of its own
    assert blocks.side_of(weight) is None or blocks.side_of(weight) < 64
    assert blocks.side_of(torch.ones(64, 64)) is None
    assert blocks.side_of((torch.rand(64, 64) < 0.3).float()) is None
    assert blocks.side_of(torch.eye(48).repeat_interleave(16, 0).repeat_interleave(16, 1)) == 16


REFUSED = {
    "3x3": (lambda: nn.Conv2d(64, 64, 3, padding=1), "copy its input for every tap"),
    "groups": (lambda: nn.Conv2d(64, 64, 1, groups=2), "no single matrix product"),
    "padded": (lambda: nn.Conv2d(64, 64, 1, padding=1), "padded 1x1"),
    "lstm": (lambda: nn.LSTM(64, 64), "LSTM is no plain"),
    "dense": (lambda: nn.Linear(64, 64), "keeps more than 50 %"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", ["cusparselt", "cutlass", "bsr", "bsr_tuned"])
def test_what_is_no_product_over_tokens_is_refused_with_the_reason(name, path):
    make, reason = REFUSED[name]
    layer = make()
    if name not in ("dense", "lstm"):
        layer.weight.data[:32] = 0
    able, why = kernels.load(path).supports(layer, "layer")
    assert not able
    assert reason in why


def test_two_of_four_means_four_consecutive_inputs():
    layer = nn.Linear(64, 32)
    layer.weight.data.view(32, -1, 4)[:, :, 2:] = 0
    layer.weight.data[0] = 0
    assert two_four.refusal(layer, 16, 16) == ""
    layer.weight.data[3, 8:11] = 1
    assert "more than two of four" in two_four.refusal(layer, 16, 16)
    layer.weight.data[3, 8] = 0
    assert two_four.refusal(layer, 16, 16) == ""
    assert "32 x 64 weights: it takes multiples of 64 x 64" in two_four.refusal(layer, 64, 64)
    head = nn.Linear(384, 1000)  # a classifier: 1000 is a multiple of 8 only
    head.weight.data.view(1000, -1, 4)[:, :, 2:] = 0
    assert "1000 x 384" in kernels.load("cusparselt").supports(head, "head")[1]


def test_a_transformers_linear_layers_are_taken_and_its_odd_ones_stay():
    net = models.build("timm:deit_tiny_patch16_224", (3, 224, 224), 1000).eval()
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.5, pattern="2:4",
                    uneven="dense", shape=(3, 224, 224))  # fmt: skip
    path = kernels.load("cusparselt")
    able = {n for n, m in made.named_modules() if path.supports(m, n)[0]}
    assert {n.rpartition(".")[2] for n in able} == {"qkv", "proj", "fc1", "fc2"}
    assert len(able) == 4 * 12


def test_tuned_parameters_are_those_of_the_device_and_the_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "TABLES", tmp_path)
    layer, _ = case("linear", "block:16x16", 0.125)
    product = blocks.Blocks(layer)
    key = blocks.tuning_key(product, 256)
    assert key == "64 128 256 16 0.1"
    (tmp_path / "Some.GPU.json").write_text(json.dumps({key: {"num_stages": 3}}))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some.GPU")
    blocks.table.cache_clear()
    try:
        assert known(product, 256) == {"num_stages": 3}
        with pytest.raises(kernels.KernelError, match="run python -m bench tune"):
            known(product, 512)
    finally:
        blocks.table.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("path", GPU_PATHS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_on_a_gpu_each_path_passes_the_gate_on_each_layer(path, name, mode):
    pattern = "2:4" if path in ("cusparselt", "cutlass") else "block:32x32"
    layer, x = case(name, pattern, 0.5)
    layer, kernel = layer.cuda(), kernels.load(path)
    able, reason = kernel.supports(layer, name)
    if "compute capability" in reason:
        pytest.skip(reason)
    assert able, reason
    for batch in (1, 2, 33):
        shape = x.shape[1:]
        x = torch.randn(batch, *shape, device="cuda")
        # in bf16 cuSPARSE rounds more often than the gate bears in small layers (pytorch #97668)
        cell = Cell("cuda", "fp32" if path == "csr" else "bf16", batch, 1)
        with torch.inference_mode():
            side = prepare(layer, kernel, cell, Variant(mode, kernel.layouts[-1]), x)
            gate(layer, cell, x).check(side)


@pytest.mark.gpu
@pytest.mark.parametrize("path", GPU_PATHS)
def test_on_a_gpu_a_whole_transformer_passes_the_gate(path):
    net = models.build("timm:deit_tiny_patch16_224", (3, 224, 224), 1000).eval().cuda()
    pattern = "2:4" if path in ("cusparselt", "cutlass") else "block:32x32"
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.5, pattern=pattern,
                    uneven="dense", shape=(3, 224, 224))  # fmt: skip
    cell, kernel = Cell("cuda", "bf16", 3, 1), kernels.load(path)
    able, reason = kernel.applies(made, net, "cuda", "bf16")
    if "compute capability" in reason:
        pytest.skip(reason)
    assert able, reason
    x = torch.randn(3, 3, 224, 224, device="cuda")
    with torch.inference_mode():
        side = prepare(made, kernel, cell, Variant("eager", kernel.layouts[-1]), x)
        gate(made, cell, x).check(side)
