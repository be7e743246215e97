"""A-priori compression: which layers of a net are factorised, to which density, how they train."""

from __future__ import annotations

import copy
import csv
from unittest import mock

import pytest
import torch
from torch import nn

from bench import data, measure, models
from bench.measure.macs import macs
from bench.method import MethodError, make
from bench.plan import expand
from bench.run import run
from bench.spec import Recipe
from bench.suite import validate
from bench.surgery import PatternError, prunable
from bench.surgery.allocation import AllocationError
from bench.surgery.layers import parts
from bench.surgery.probe import SurgeryError
from bench.surgery.store import digest, load, save
from tests.configs import changed
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def untrained(net: nn.Module, shape: tuple[int, ...], weights=None, **params) -> nn.Module:
    """What the method makes of `net`, with the checkpoint `weights`, before training."""
    stream = torch.Generator().manual_seed(0)
    trainer = mock.Mock(shape=shape, generator=lambda: stream, **{"spec.weights": weights})
    return next(make("tensor_cnn", params).compress(copy.deepcopy(net), trainer))


@pytest.mark.parametrize(
    ("arch", "shape", "density"),
    [
        ("resnet20", (3, 32, 32), 0.2),
        ("vgg16_bn", (3, 32, 32), 0.05),
        ("lenet5", (1, 28, 28), 0.4),
        ("wave_net", (5, 16, 16), 0.3),
        ("timm:test_convnext", (3, 64, 64), 0.2),
        ("timm:test_vit", (3, 160, 160), 0.5),
    ],
)
def test_a_net_is_brought_to_its_density_and_stored(arch, shape, density, tmp_path):
    classes = 1 if arch == "wave_net" else 10
    dense = models.build(arch, shape, classes)
    model = untrained(dense, shape, density=density)
    total, left = (sum(w.numel() for w in prunable(net).values()) for net in (dense, model))
    assert 0 <= round(density * total) - left < 0.01 * density * total
    weight = prunable(dense)
    (*_, last) = weight
    if arch != "wave_net":  # it has no classifier
        assert torch.equal(prunable(model)[last], weight[last])
    for name, held in parts(model, dense).items():
        assert 0 < sum(w.numel() for w in held.values()) <= weight[name].numel()
    save(model, tmp_path, arch, shape, classes)
    assert digest(load(tmp_path)) == digest(model)
    fields, rows = measure.cost(model, dense, shape, 0)
    assert fields["density"] == left / total
    found = macs(model, shape)
    assert fields["macs"] == sum(found.values())
    assert sum(r["macs"] for r in rows) == sum(found[n] for n in prunable(model))
    whole = untrained(dense, shape, density=1.0)
    assert digest(whole) == digest(dense)


def test_modes_ranks_and_the_linear_switch_choose_the_layers():
    shape = (1, 28, 28)
    net = models.build("lenet5", shape, 10)

    def shapes(**params) -> dict[str, int]:
        held = parts(untrained(net, shape, **params), net)
        return {n.split(".")[0]: sum(w.numel() for w in ws.values()) for n, ws in held.items()}

    dense = {"conv1": 500, "conv2": 25000, "fc1": 400000, "fc2": 5000}
    auto = {"density": "auto"}
    assert shapes(mode="rank1", **auto) == dense | {"conv1": 220, "conv2": 50 * 30}
    assert shapes(mode="separable", **auto) == dense | {"conv1": 200, "conv2": 10000}
    assert shapes(rank=3, **auto) == {"conv1": 93, "conv2": 240, "fc1": 3900, "fc2": 5000}
    assert shapes(rank=20, linear=False, **auto) == dense | {"conv2": 1600}  # conv1 would grow
    assert shapes(rank={"fc1.weight": 5}, **auto) == dense | {"fc1": 6500}
    conv_only = shapes(density=0.95, linear=False)
    assert conv_only["fc1"] == 400000
    assert sum(conv_only.values()) == pytest.approx(0.95 * 430500, rel=1e-3)


@pytest.mark.parametrize(
    ("arch", "params", "reason"),
    [
        ("lenet5", {"density": 0.01}, r"0\.01 is out of reach: 5000 of 430500.*classifier"),
        ("lenet5", {"density": 0.5, "linear": False}, "fc1.weight: a linear layer"),
        ("lenet5", {"density": "auto", "rank": {"fc3.weight": 2}}, "'fc3.weight': no such weight"),
        ("lenet5", {"density": "auto", "rank": {"fc2.weight": 2}}, "fc2.weight.*classifier"),
        ("lenet5", {"density": "auto", "rank": {"conv1.weight": 17}}, r"17 .*nothing: 527 >= 500"),
        ("lenet5", {"density": "auto", "rank": 400}, "rank 400 makes no layer smaller"),
        ("lenet300", {"density": "auto", "mode": "rank1"}, "mode rank1 makes no layer smaller"),
        ("lstm", {"density": 0.5}, "LSTM is no plain convolution"),
    ],
)  # fmt: skip
def test_nets_and_densities_out_of_reach_are_refused(arch, params, reason):
    shape = (1, 28, 28)
    with pytest.raises((PatternError, AllocationError), match=reason):
        untrained(models.build(arch, shape, 10), shape, **params)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"mode": "rank1"}, "density must be"),
        ({"mode": "separable", "density": 0.5}, "density must be"),
        ({"density": "auto"}, "density must be"),
        ({"rank": 3}, "density must be"),
        ({"rank": 3, "mode": "rank1", "density": "auto"}, "mode rank1 has none"),
        ({"rank": 0, "density": "auto"}, "rank"),
        ({"rank": {}, "density": "auto"}, "rank.* at least 1 item"),
        ({"mode": "tucker"}, "mode"),
    ],
)
def test_parameters_that_promise_what_they_cannot_keep_are_refused(params, reason):
    with pytest.raises(MethodError, match=reason):
        make("tensor_cnn", params)


def test_trained_weights_and_a_bare_layer_are_refused():
    net = nn.Conv2d(3, 8, 3)
    with pytest.raises(SurgeryError, match="discard the trained kernels"):
        untrained(nn.Sequential(net), (3, 8, 8), weights="net.pth", density=0.5)
    with pytest.raises(SurgeryError, match="bare Conv2d"):
        untrained(net, (3, 8, 8), density=0.5)


@pytest.mark.parametrize(("tied", "reason"), [("weight", "share it"), ("bias", "share its bias")])
def test_layers_that_share_a_tensor_stay_dense(tied, reason):
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    setattr(net[1], tied, getattr(net[0], tied))
    model = untrained(net, (8, 9, 9), density="auto", rank=2)
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Conv2d, nn.Sequential]
    assert getattr(model[1], tied) is getattr(model[0], tied)
    with pytest.raises(PatternError, match=reason):
        untrained(net, (8, 9, 9), density="auto", rank={"0.weight": 2})


def test_controls_copy_the_number_of_weights_of_each_layers_factors(tmp_path):
    content = changed(
        {"architectures": ["resnet8"], "train": {"epochs": 1}},
        densities=[0.2],
        seeds=[0],
        methods={"tensor_cnn": [{}, {"mode": "rank1", "density": "auto"}]},
        controls=["random"],
    )
    records = [
        run(s, tmp_path, data.root(), "cpu") for s in expand(validate(content, "t")).runs.values()
    ]
    assert [r.status for r in records] == ["ok"] * 5

    def counts(record) -> dict[str, int]:
        with (tmp_path / "runs" / record.id / "layers.csv").open() as file:
            return {row["layer"]: int(row["nonzeros"]) for row in csv.DictReader(file)}

    by_id = {r.id: r for r in records}
    controls = [r for r in records if r.spec.like]
    assert len(controls) == 2
    for control in controls:
        assert counts(control) == counts(by_id[control.spec.like])
    steered = next(
        r for r in records if r.spec.method == "tensor_cnn" and r.spec.params.get("density")
    )
    assert steered.points[0].density == pytest.approx(0.2, rel=0.002)


def test_factors_learn_digits_nearly_as_well_as_the_dense_net(digits):
    """Four epochs from the same initial weights, batches and recipe."""
    recipe = Recipe(epochs=4, lr=0.1, batch_size=64)

    def accuracy(method: str, **params) -> float:
        bench = Bench(digits, "resnet8", method, **params)
        spec = bench.spec.model_copy(
            update={"train": recipe, "finetune": None if method == "dense" else recipe}
        )
        trainer = bench.trainer(spec, 10)
        with mock.patch.object(trainer, "epochs", return_value=4):
            (model,) = bench.method.compress(bench.initial(), trainer)
        return measure.accuracy(model, digits.test, digits.normalise).top1

    dense = accuracy("dense")
    assert dense > 0.9
    assert accuracy("tensor_cnn", density=0.2) > dense - 0.06
    assert accuracy("tensor_cnn", density=0.05) > 0.6
