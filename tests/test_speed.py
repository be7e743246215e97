"""Campaigns: the layers of a net, the floor of each, and untrained nets through the protocol."""

from __future__ import annotations

import copy

import pandas as pd
import pytest
import torch
from torch import nn

from bench import models
from bench.latency import table
from bench.latency.prepare import Cell
from bench.measure import macs
from bench.method import make
from bench.speed import run
from bench.speed.campaign import Campaign, subjects
from bench.speed.roofline import Ceilings, ceilings, floor, places, work
from bench.speed.shapes import LayerShape, shapes
from bench.speed.still import left_by
from bench.surgery import prunable

IMAGE, CHANNEL = (3, 32, 32), "random(pattern=channel)"
LATENCY = {
    "devices": ["cpu"],
    "dtypes": ["fp32"],
    "batch_sizes": [1],
    "threads": [1],
    "seconds_per_cell": 0.01,
    "paths": ["dense", "masked_dense", "embedding_bag"],
}
CAMPAIGN = Campaign.model_validate(
    {
        "campaign": "try",
        "image": IMAGE,
        "layers": {
            "of": ["resnet8", "resnet20"],
            "versions": {"random": [{}]},
            "densities": [0.5, 0.1],
            "latency": LATENCY,
        },
        "nets": {
            "of": ["resnet8"],
            "versions": {"random": [{}, {"pattern": "channel"}], "tensor_cnn": [{}]},
            "densities": [0.6, 0.2],
            "latency": LATENCY,
        },
    }
)


@pytest.mark.parametrize("arch", ["resnet8", "vgg16_bn", "timm:mobilenetv2_050", "timm:levit_128s"])
def test_the_layers_of_a_net_are_all_of_its_work(arch):
    """Each with its own shape and count: their multiply-adds add up to those that are measured."""
    shape = (3, 224, 224) if "levit" in arch else IMAGE
    net = models.build(arch, shape, 10).eval()
    found = shapes(net, shape)
    kinds = {n for n, m in net.named_modules() if type(m) in (nn.Linear, nn.Conv2d)}
    measured = sum(v for n, v in macs(net, shape).items() if n.rpartition(".")[0] in kinds)
    assert sum(count * work(layer, 1)[0] for layer, count in found.items()) == measured
    assert len({layer.name for layer in found}) == len(found)


def test_a_layer_shape_builds_that_layer():
    net = models.build("timm:mobilenetv2_050", (3, 64, 64), 10).eval()
    for layer in shapes(net, (3, 64, 64)):
        x = torch.randn(2, *layer.inputs)
        with torch.no_grad():
            y = layer.build()(x)
        assert y[0].numel() == layer.outputs * places(layer)
        assert layer.build().weight.numel() == work(layer, 1)[1]


def test_a_floor_is_arithmetic_or_traffic_whichever_takes_longer():
    """A 3x3 layer, 64 channels in and out, on 56 x 56: counted by hand."""
    layer = LayerShape((64, 56, 56), 64, ((3, 3), (1, 1), (1, 1), (1, 1)), 1, True)
    assert layer.name == "conv3x3-64-64-56"
    cell = Cell("cpu", "fp32", 2, 1)
    done = 2 * 56 * 56 * 64 * 64 * 9
    assert work(layer, 2) == (done, 64 * 64 * 9)
    moved = 4 * (2 * 2 * 64 * 56 * 56 + 64 * 64 * 9)
    slow_arithmetic = floor(layer, cell, 1.0, Ceilings(1e9, 1e12))
    assert slow_arithmetic.bound == "compute"
    assert slow_arithmetic.ms == pytest.approx(1e3 * 2 * done / 1e9)
    slow_memory = floor(layer, cell, 1.0, Ceilings(1e15, 1e9))
    assert slow_memory.bound == "memory"
    assert slow_memory.ms == pytest.approx(1e3 * moved / 1e9)
    pruned = floor(layer, cell, 0.1, Ceilings(1e15, 1e9))
    weights = 0.1 * 64 * 64 * 9
    assert pruned.ms == pytest.approx(1e-6 * (4 * 2 * 2 * 64 * 56 * 56 + 8 * weights))


def test_ceilings_are_of_this_world(monkeypatch):
    monkeypatch.setattr("bench.speed.roofline.SIDE", {"cpu": 512})
    monkeypatch.setattr("bench.speed.roofline.COPIED", {"cpu": 2**24})
    found = ceilings(Cell("cpu", "fp32", 1, 1))
    assert 1e8 < found.flops < 1e14
    assert 1e8 < found.bandwidth < 1e13


def test_layers_that_two_nets_share_are_one_subject():
    found = subjects(CAMPAIGN)
    layers = [name for name, subject in found.items() if subject.kind == "layers"]
    own = [shapes(models.build(net, IMAGE, 1000), IMAGE) for net in ("resnet8", "resnet20")]
    assert set(layers) == {layer.name for net in own for layer in net}
    assert len(layers) < sum(map(len, own))
    assert found["resnet8"].kind == "nets"


@pytest.mark.parametrize("method", ["random", "tensor_cnn"])
def test_a_version_is_what_its_method_leaves_untrained(method):
    net = models.build("resnet8", IMAGE, 10)
    before = copy.deepcopy(net.state_dict())
    left = left_by(make(method, {"density": 0.2}), net, IMAGE)
    assert not left.training
    kept = sum(int(w.count_nonzero()) for w in prunable(left).values())
    whole = sum(w.numel() for w in prunable(models.build("resnet8", IMAGE, 10)).values())
    assert kept / whole == pytest.approx(0.2, abs=0.02)
    if method == "random":
        for name, weight in prunable(left).items():
            assert torch.equal(weight[weight != 0], before[name][weight != 0])


def test_the_same_subject_is_the_same_net_in_every_process():
    subject = subjects(CAMPAIGN)["resnet8"]
    first, again = subject.dense(), subject.dense()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    label = next(iter(subject.versions))
    made, once = (subject.loader()(subject.target(label).folder) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), once.parameters(), strict=True))


def test_a_subject_is_measured_resumed_and_has_its_controls(tmp_path):
    path = run.run(CAMPAIGN, "resnet8", tmp_path)
    rows = pd.DataFrame(table.read(path))
    labels = {f"{v}@{d}" for v in ("random", CHANNEL, "tensor_cnn") for d in (0.2, 0.6)}
    assert set(rows["run"]) == {"dense", *labels}
    assert set(rows["dataset"]) == {"nets"}
    timed = rows[rows["speedup"].notna()]
    paths = {(row.run, row.path) for row in timed.itertuples() if row.role == "candidate"}
    assert paths == {
        ("random@0.6", "masked_dense"),
        ("random@0.2", "masked_dense"),
        ("random@0.2", "embedding_bag"),
        (f"{CHANNEL}@0.6", "dense"),
        (f"{CHANNEL}@0.2", "dense"),
        ("tensor_cnn@0.6", "dense"),
    }
    assert set(rows.loc[rows["role"] == "control", "path"]) == {"embedding_bag"}
    assert (timed["output_error"] < 1e-5).all()
    reasons = {(row.run, row.path): row.reason for row in rows.itertuples()}
    assert "keeps more than 50 % of its weights" in reasons["random@0.6", "embedding_bag"]
    assert "64000 of 140720 weights stay dense" in reasons["tensor_cnn@0.2", "dense"]
    settled = timed[timed["status"] == "ok"]
    again = pd.DataFrame(table.read(run.run(CAMPAIGN, "resnet8", tmp_path)))
    kept = again.merge(settled, on=["run", "path", "mode", "layout", "median_ms"])
    if (timed["status"] == "ok").all():  # else the machine was crowded, and all is measured again
        assert len(kept) == len(settled)


def test_ceilings_are_written_for_every_condition(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ceilings", lambda cell: Ceilings(cell.threads * 1e9, 1e10))
    found = pd.read_csv(run.limits(CAMPAIGN, tmp_path))
    assert found.to_dict("records") == [
        {"device": "cpu", "dtype": "fp32", "threads": 1, "flops": 1e9, "bandwidth": 1e10}
    ]
