"""Small nets and a scripted clock, shared by the tests of the latency protocol."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bench.latency import LatencyConfig, Target
from bench.latency.prepare import Prepared

SHAPE = (3, 8, 8)
CONFIG = LatencyConfig(devices=("cpu",), dtypes=("fp32",), batch_sizes=(2,), threads=(1,))
DENSE = Target("dense", 0, "digest-dense", Path("dense"))
MASKED = Target("masked", 1, "digest-masked", Path("masked"))
SHRUNK = Target("shrunk", 0, "digest-shrunk", Path("shrunk"))


def convnet(width: int = 8) -> nn.Sequential:
    """A convolution, a batch norm with statistics as after training, and a classifier."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 64, 5),
    )
    norm = net[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    return net.eval()


class Shelf:
    """Stands for `bench.surgery.store.load`: nets by folder name; counts what it gives out."""

    def __init__(self) -> None:
        masked = convnet()
        masked[0].weight.data[:, :, 1] = 0
        self.nets = {"dense": convnet(), "masked": masked, "shrunk": convnet(4)}
        self.loads: list[str] = []

    def __call__(self, folder: Path) -> nn.Module:
        self.loads.append(folder.name)
        return copy.deepcopy(self.nets[folder.name])


class Clock:
    """A timer that reads the script instead of the time: milliseconds by (path, layout)."""

    def __init__(self, script: Callable[[Prepared], float]) -> None:
        self.script = script
        self.calls: list[tuple[str, str]] = []

    def __call__(self, call: Prepared, calls: int) -> list[float]:
        self.calls.append((call.path, call.variant.layout))
        return [self.script(call)] * calls


def scripted(call: Prepared) -> float:
    """Dense 4 ms (NHWC 2 ms); masked dense 1.6 ms (NHWC 3 ms); a shrunk net half of dense."""
    if call.digest == SHRUNK.digest:
        return 1.0
    layout = call.variant.layout
    times = {"dense": {"nchw": 4.0, "nhwc": 2.0}, "masked_dense": {"nchw": 1.6, "nhwc": 3.0}}
    return times[call.path][layout]
