"""Why a pruned net is slower than its multiply-adds say: its layers' times, and the causes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import kernels, models
from bench.latency.machine import pinned
from bench.latency.prepare import Cell
from bench.method import make
from bench.speed.clock import clock, operators, ready
from bench.speed.diagnosis import Diagnosis, Layer, causes, diagnose, sentence, unpruned
from bench.speed.roofline import Ceilings
from bench.speed.still import left_by

SHAPE, CELL, LIMITS = (3, 32, 32), Cell("cpu", "fp32", 2, 1), Ceilings(1e11, 2e10)


def net() -> nn.Module:
    torch.manual_seed(0)
    return models.build("resnet8", SHAPE, 10).eval()


VERSIONS = {
    "embedding_bag": ("random", {"density": 0.1}, "embedding_bag"),
    "masked": ("random", {"density": 0.1}, "masked_dense"),
    "removed": ("random", {"density": 0.2, "pattern": "channel"}, "dense"),
    "factorised": ("tensor_cnn", {"density": 0.3}, "dense"),
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Layer]]:
    x, layers = torch.randn(CELL.batch, *SHAPE), {}
    for name, (method, params, path) in VERSIONS.items():
        model = left_by(make(method, params), net(), SHAPE)
        with pinned("cpu", 1):
            before = unpruned(net(), CELL, "nchw", x)
            own = diagnose(net(), model, kernels.load(path), CELL, "nchw", x, LIMITS, before)
        assert 0 < sum(layer.ms for layer in own.layers) < 1.5 * own.ms
        assert own.dense_ms > 0
        layers[name] = {layer.name: layer for layer in own.layers}
    return layers


@pytest.mark.parametrize("name", VERSIONS)
def test_every_layer_of_the_net_is_timed_on_both_sides(found, name):
    """Also where a chain of factors stands in a layer's place, and folding has inlined it."""
    layers = found[name].values()
    assert [layer.name for layer in layers] == [
        n for n, m in net().named_modules() if type(m) in (nn.Conv2d, nn.Linear)
    ]
    assert sum(layer.share for layer in layers) == pytest.approx(1)
    assert all(layer.dense_ms > 0 and layer.ms > 0 and layer.floor_ms > 0 for layer in layers)
    assert all(layer.operators for layer in layers)


def test_a_layer_says_whether_its_zeros_are_exploited_by_what_and_if_not_why(found):
    bags, masked = found["embedding_bag"], found["masked"]
    assert all(layer.exploits and not layer.reason for layer in bags.values())
    assert not any(layer.exploits for layer in masked.values())
    assert "multiplies zeros like any number" in masked["fc"].reason
    assert "conv" in masked["conv1"].operators
    assert all(layer.left == pytest.approx(0.1, abs=0.05) for layer in bags.values())
    removed = found["removed"]
    assert removed["stages.1.0.conv2"].exploits
    assert removed["stages.1.0.conv2"].left < 0.5
    factorised = found["factorised"]
    assert factorised["stages.2.0.conv1"].exploits
    assert not factorised["fc"].exploits  # the classifier stays dense
    assert factorised["fc"].left == 1


def test_the_profiler_sees_the_sparse_kernel_in_every_layer():
    model = left_by(make("random", {"density": 0.1}), net(), SHAPE)
    names = [n for n, m in model.named_modules() if type(m) in (nn.Conv2d, nn.Linear)]
    made = ready(model, kernels.load("embedding_bag"), "fp32", "nchw")
    with pinned("cpu", 1):
        ran = operators(made, names, torch.randn(2, *SHAPE))
    assert set(ran) == set(names)
    assert all(any("embedding_bag" in one for one in own) for own in ran.values())
    assert not any("convolution" in one for own in ran.values() for one in own)


def test_channels_that_units_have_to_pad_are_noticed(found):
    assert not found["masked"]["conv1"].aligned  # three channels in
    assert found["masked"]["stages.0.0.conv1"].aligned
    assert not all(layer.aligned for layer in found["removed"].values())


def test_the_clock_counts_every_call_of_a_layer_and_nothing_else():
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.once = nn.Linear(256, 256), nn.Linear(256, 256)

        def forward(self, x):
            return self.once(self.twice(self.twice(x)).relu())

    made, x = ready(Slow(), None, "fp32", "nchw"), torch.randn(512, 256)
    with pinned("cpu", 1):
        times = min((clock(made, ["twice", "once"], x) for _ in range(5)), key=lambda t: t["twice"])
        assert 1.4 < times["twice"] / times["once"] < 2.8
        assert operators(made, ["twice"], x)["twice"][0] == "aten::addmm"


def layer(name: str, exploits: bool, left: float, dense: float, ms: float, floor: float) -> Layer:
    return Layer(name, exploits, "" if exploits else "why", "op", 0.5, left, True, dense, ms, floor)


def test_lost_time_is_split_without_a_rest():
    """A tenth of two layers of 10 ms is left; 2 ms lie between them. Ideal: 1 + 1 + 0.2 ms."""
    layers = [layer("a", True, 0.1, 10, 4, 1.5), layer("b", False, 0.1, 10, 9, 0.5)]
    found = Diagnosis(layers, 22, 15)
    assert found.theory == pytest.approx(10)
    lost = causes(found, 22)
    assert lost == {
        "ineligible": pytest.approx(8),
        "traffic": pytest.approx(0.5),
        "kernel": pytest.approx(2.5),
        "between": pytest.approx(1.8),
        "runtime": pytest.approx(0),
    }
    assert sum(lost.values()) == pytest.approx(15 - 2.2)
    # the dense net takes half as long elsewhere, so that much less was to be expected
    elsewhere = causes(found, 11)
    assert elsewhere["runtime"] == pytest.approx(1.1)
    assert sum(elsewhere.values()) == pytest.approx(15 - 1.1)


@pytest.mark.parametrize(
    ("second", "best", "said"),
    [
        (layer("b", False, 0.1, 10, 9, 0.5), 20, "layers that do not exploit their zeros (b: why)"),
        (layer("b", True, 0.1, 10, 9, 0.5), 20, "the kernel itself"),
        (layer("b", True, 0.1, 10, 9, 8.9), 20, "memory traffic"),
        (layer("b", True, 0.9, 10, 9, 0.5), 4, "the dense net is faster elsewhere"),
    ],
)
def test_the_sentence_names_the_largest_cause(second, best, said):
    found = Diagnosis([layer("a", True, 0.1, 10, 1, 0.5), second], 20, 10)
    assert said in sentence(found, best)


def test_launches_are_named_where_the_layers_are_not_to_blame():
    layers = [layer("a", True, 0.1, 1, 0.1, 0.1), layer("b", True, 0.1, 1, 0.1, 0.1)]
    assert "what lies between the layers" in sentence(Diagnosis(layers, 2.5, 2), 2.5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("params", "path", "kernel"),
    [
        ({"pattern": "tile:16x16", "uneven": "dense"}, "implicit_gemm", "convolve"),
        ({"pattern": "k-of-n:16", "uneven": "dense"}, "gather_gemm", "shared"),
        ({"pattern": "channel"}, "dense", ""),
    ],
)
def test_on_a_gpu_layers_are_timed_by_their_kernels(params, path, kernel):
    cell, x = Cell("cuda", "bf16", 32, 1), torch.randn(32, *SHAPE, device="cuda")
    model = left_by(make("random", {"density": 0.25, **params}), net(), SHAPE)
    with pinned("cuda", 1, "bf16"), torch.inference_mode():
        before = unpruned(net(), cell, "nhwc", x)
        found = diagnose(net(), model, kernels.load(path), cell, "nhwc", x, LIMITS, before)
    assert all(layer.ms > 0 and layer.dense_ms > 0 for layer in found.layers)
    assert sum(layer.ms for layer in found.layers) <= 1.2 * found.ms
    exploiting = [layer for layer in found.layers if layer.exploits]
    assert len(exploiting) >= 6
    assert all(kernel in layer.operators for layer in exploiting)
    assert sentence(found, found.dense_ms)
