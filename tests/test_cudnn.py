"""Dense convolutions with what follows in cuDNN's own kernel: the baseline on GPUs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import kernels, models
from bench.latency.gate import distance, gate
from bench.latency.machine import pinned
from bench.latency.prepare import Cell, Variant, prepare
from bench.products import after, cudnn


@pytest.fixture
def operators(monkeypatch):
    """cuDNN's operators by their description, which counts; there is no cuDNN on a CPU."""
    calls = []

    def relu(x, w, bias, stride, padding, dilation, groups):
        calls.append("relu")
        return F.conv2d(x, w, bias, stride, padding, dilation, groups).relu()

    def add_relu(x, w, z, alpha, bias, stride, padding, dilation, groups):
        calls.append("add")
        return (F.conv2d(x, w, bias, stride, padding, dilation, groups) + alpha * z).relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)
    return calls


def test_sums_and_relus_go_to_one_operator(operators):
    """ResNet-8: a stem and three blocks, each of a convolution with a ReLU and one with a sum."""
    net, path = models.build("resnet8", (3, 32, 32), 10).eval(), kernels.load("cudnn")
    cell, x = Cell("cpu", "fp32", 2, 1), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        side = prepare(net, path, cell, Variant("eager", "nhwc"), x)
        operators.clear()
        assert gate(net, cell, x).check(side) < 1e-5
    assert operators == ["relu", "relu", "add", "relu", "add", "relu", "add"] * 2


@pytest.mark.parametrize("bounds", [(-torch.inf, torch.inf), (0.0, torch.inf), (0.0, 6.0)])
def test_other_bounds_and_broadcast_sums_are_torchs_own(bounds, operators):
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    made = cudnn.Convolution(layer)
    made.low, made.high = bounds
    x = torch.randn(2, 4, 7, 5)
    for add in (None, torch.randn(2, 6, 4, 3), torch.randn(6, 1, 1)):
        wanted = (layer(x) + (0 if add is None else add)).clamp(*bounds)
        assert distance(made(x, add), wanted) < 1e-6
    assert operators == (["relu", "add"] if bounds == after.RELU else [])


def test_only_plain_convolutions_are_taken():
    assert cudnn.refusal(nn.Conv2d(4, 4, 3)) == ""
    assert "Linear is no plain" in cudnn.refusal(nn.Linear(4, 4))
    assert "circular" in cudnn.refusal(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    net = nn.Sequential(nn.Linear(4, 4))
    assert kernels.load("cudnn").applies(net, net, "cuda", "bf16") == (False, "no 2-D convolution")


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager", "graph", "compile-default"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_on_a_gpu_a_residual_net_passes_the_gate(dtype, mode):
    net = models.build("timm:resnet18", (3, 64, 64), 10).eval()
    cell, x = Cell("cuda", dtype, 3, 1), torch.randn(3, 3, 64, 64, device="cuda")
    with pinned("cuda", 1):
        side = prepare(net, kernels.load("cudnn"), cell, Variant(mode, "nhwc"), x)
        gate(net, cell, x).check(side)
