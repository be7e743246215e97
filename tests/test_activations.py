"""Activations: exact densities, and the channels that each ReLU carries."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench import models
from bench.surgery.activations import Activity
from bench.surgery.channels import SurgeryError


def net(arch: str, shape: tuple[int, int, int]) -> nn.Module:
    torch.manual_seed(0)
    return models.build(arch, shape, 10)


def measured(model: nn.Module, shape, images: torch.Tensor, **options) -> dict[str, torch.Tensor]:
    activity = Activity(model, shape, **options)
    with activity:
        model.train()(images)
        activity.step()
    return activity.read()


class Mixed(nn.Module):
    """Every way to call a ReLU, a concatenation without batch norm, and a saturating one."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 6, 3), nn.Conv2d(10, 5, 3)
        self.six, self.fc = nn.ReLU6(), nn.Linear(5 * 16, 7)
        self.end = nn.Linear(7, 10)
        self.kept: list[torch.Tensor] = []

    def forward(self, x):
        self.kept = [torch.cat([self.a(x), self.b(x)], 1).relu()]
        self.kept.append(self.six(3 * self.c(self.kept[0])))
        self.kept.append(F.relu(self.fc(F.max_pool2d(self.kept[1], 3).flatten(1)), inplace=True))
        return self.end(self.kept[2])


def test_the_density_of_a_relu_is_the_fraction_above_zero_of_each_channel_before_pooling():
    torch.manual_seed(0)
    model, images = Mixed(), torch.randn(8, 3, 16, 16)
    found = measured(model, (3, 16, 16), images)
    model(images)
    first, six, last = ((y > 0).double() for y in model.kept)
    whole = first.mean((0, 2, 3))
    expected = {
        "a.weight": whole[:4],
        "b.weight": whole[4:],
        "c.weight": six.mean((0, 2, 3)),
        "fc.weight": last.mean(0),
    }
    assert set(found) == set(expected)
    for name, density in expected.items():
        assert found[name].shape == (1, len(density))
        assert torch.equal(found[name][0], density), name


def test_counts_add_up_over_steps_and_leave_out_validation():
    torch.manual_seed(0)
    model, batches = Mixed(), torch.randn(4, 8, 3, 16, 16)
    activity = Activity(model, (3, 16, 16), every=2)
    whole = []
    with activity:
        for index, images in enumerate(batches):
            model(images)
            activity.step()
            with torch.no_grad():
                model(images)
            if index % 2 == 0:
                whole.append((model.kept[0] > 0).double().mean((0, 2, 3)))
    assert torch.allclose(activity.read()["b.weight"][0], sum(whole)[4:] / 2, atol=1e-12)
    with pytest.raises(SurgeryError, match="no training step"):
        activity.read()


@pytest.mark.parametrize(
    ("arch", "shape", "expected"),
    [
        ("lenet5", (1, 28, 28), {"conv1": [0], "conv2": [1], "fc1": [2]}),
        (
            "resnet8",
            (3, 16, 16),  # of a stage the ReLU after each addition, and in the first the stem's
            {"conv1": [0, 2], "stages.0.0.conv1": [1], "stages.1.0.conv1": [3],
             "stages.1.0.conv2": [4], "stages.2.0.conv1": [5], "stages.2.0.conv2": [6]},
        ),
    ],
)  # fmt: skip
def test_each_relu_is_found_to_carry_its_channels(arch, shape, expected):
    activity = Activity(net(arch, shape), shape)
    found = {g.name: [call for call, _ in activity.calls[g.name]] for g in activity.groups}
    assert found == {f"{layer}.weight": calls for layer, calls in expected.items()}


def test_convolution_batch_norm_relu_is_half_active_at_initialisation():
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for density in measured(net("sap_cnn", (3, 32, 32)), (3, 32, 32), images).values():
        assert float(density.mean()) == pytest.approx(0.5, abs=0.05)


def test_concatenated_channels_are_found_at_their_place_in_every_reader():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    block = timm.models.densenet.DenseBlock(2, 6, bn_size=2, growth_rate=4)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        block,
        nn.BatchNorm2d(14),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(14 * 36, 5),
    )
    activity = Activity(model, (3, 8, 8))
    found = {g.name: [call for call, _ in activity.calls[g.name]] for g in activity.groups}
    # ReLUs 0 and 2 read all that came before, 1 and 3 the bottlenecks, 4 the whole block
    assert found["0.weight"] == [0, 2, 4]
    assert found["1.denselayer1.conv2.weight"] == [2, 4]
    assert found["1.denselayer2.conv2.weight"] == [4]
    images = torch.randn(4, 3, 8, 8)
    with activity:
        model.train()(images)
        activity.step()
    last = (model[:4](images) > 0).double().mean((0, 2, 3))
    reading = activity.read()
    assert torch.allclose(reading["0.weight"][2], last[:6])
    assert torch.allclose(reading["1.denselayer1.conv2.weight"][1], last[6:10])
    assert torch.allclose(reading["1.denselayer2.conv2.weight"][0], last[10:])


def test_a_training_step_with_other_relus_than_the_trace_is_an_error():
    model = net("lenet5", (1, 28, 28))
    activity = Activity(model, (1, 28, 28))
    with activity, pytest.raises(SurgeryError, match="rectifies other tensors"):
        torch.relu(torch.zeros(2, 3))
    with pytest.raises(SurgeryError, match="called 0 ReLUs in a training step, not 3"):
        activity.step()
