"""Taylor-FO: the importance against gates, the schedule, the oracle, behaviour on data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bench import data
from bench.method import make
from bench.surgery import channels, prunable
from bench.surgery.gradients import Gradients, product
from bench.surgery.views import Channels
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def products_of(model, inputs, targets):
    found = Gradients(dict(model.named_parameters()), product)
    found.watch()
    F.cross_entropy(model(inputs), targets).backward()
    found.stop()
    return found.found


@pytest.fixture
def batch(digits):
    images, labels = next(digits.train.batches(64))
    return digits.normalise(images), labels


def test_importance_is_the_squared_gradient_of_a_gate_behind_the_batch_norm(digits, batch):
    """dL/dz of a gate z = 1 on the batch norm's output: the sum of output times its gradient."""
    model = Bench(digits, "resnet8", "taylor").initial().train()
    groups = channels.groups(model, digits.shape)
    seen = {}
    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for name, module in norms.items():
        module.register_forward_hook(
            lambda m, a, out, n=name: (out.retain_grad(), seen.update({n: out}))[1]
        )
    found = products_of(model, *batch)
    gates = {n: (out * out.grad).sum((0, 2, 3)) for n, out in seen.items()}
    method = make("taylor", {"divide": False})
    checked = 0
    for group in groups:
        wanted = sum(
            gates[p.name.rpartition(".")[0]][p.index[:, 0]]
            for p in group.slices
            if p.output and p.name.endswith("weight") and p.name.rpartition(".")[0] in norms
        )
        importance = method.importance(group, found)
        assert torch.allclose(importance, wanted.square(), rtol=0.02, atol=1e-9), group.name
        checked += 1
    assert checked >= 4


def test_coupled_layers_share_the_square(digits, batch):
    model = Bench(digits, "resnet8", "taylor").initial().train()
    found = products_of(model, *batch)
    whole, shared = (make("taylor", {"divide": d}) for d in (False, True))
    for group in channels.groups(model, digits.shape):
        ratio = whole.importance(group, found) / shared.importance(group, found)
        assert torch.allclose(ratio, torch.full_like(ratio, len(group.producers)))
    assert any(len(g.producers) > 1 for g in channels.groups(model, digits.shape))


def test_a_channel_that_nobody_reads_has_no_importance(digits, batch):
    model = Bench(digits, "resnet8", "taylor").initial().train()
    with torch.no_grad():
        prunable(model)["stages.0.0.conv2.weight"][:, 3] = 0
    found = products_of(model, *batch)
    group = next(
        g for g in channels.groups(model, digits.shape) if g.name == "stages.0.0.conv1.weight"
    )
    importance = make("taylor", {}).importance(group, found)
    # what is left is that a batch norm's epsilon makes the scale of its convolution matter a little
    assert float(importance[3]) < 1e-12 < float(importance.median())


def test_rounds_are_spread_over_the_share_but_never_far_apart():
    assert make("taylor", {}).due(100_000) == [30 * (i + 1) for i in range(30)]
    assert make("taylor", {}).due(120) == [2 * (i + 1) for i in range(30)]
    assert make("taylor", {}).due(10) == [1, 2, 3, 4, 5]


def test_the_worst_channels_over_all_layers_go_and_never_return(digits):
    model = Bench(digits, "resnet8", "taylor").initial()
    method, view = make("taylor", {}), Channels(model, digits.shape)
    draws = torch.Generator().manual_seed(0)
    keep = {n: torch.ones(size, dtype=torch.bool) for n, size in view.sizes.items()}
    scores = {n: torch.rand(size, generator=draws) for n, size in view.sizes.items()}
    method.remove(view, keep, scores, 0.6)
    before = {n: k.clone() for n, k in keep.items()}
    gone = torch.cat([scores[n][~k] for n, k in keep.items()])
    left = torch.cat([scores[n][k] for n, k in keep.items()])
    assert len(gone) > 0
    assert float(gone.max()) <= float(left.min())
    method.remove(view, keep, {n: 1 - s for n, s in scores.items()}, 0.3)
    assert all(not (k & ~before[n]).any() for n, k in keep.items())


def test_widths_fall_round_by_round_and_the_oracle_agrees(digits):
    bench = Bench(digits, "resnet8", "taylor", oracle=60)
    points, _ = bench.points()
    lines = [line for line in bench.lines if line["event"] == "taylor"]
    for layer in {line["layer"] for line in lines}:
        widths = [line["width"] for line in lines if line["layer"] == layer]
        assert widths == sorted(widths, reverse=True)
    probes = [line for line in bench.lines if line["event"] == "oracle"]
    assert len(probes) == 60
    estimate, oracle = (
        torch.tensor([p[key] for p in probes]).argsort().argsort().double()
        for key in ("taylor", "oracle")
    )
    assert float(torch.corrcoef(torch.stack([estimate, oracle]))[0, 1]) > 0.4  # of ranks
    left = sum(w.numel() for w in prunable(points[0]).values())
    whole = sum(w.numel() for w in prunable(bench.initial()).values())
    assert left / whole == pytest.approx(0.3, rel=0.25)
