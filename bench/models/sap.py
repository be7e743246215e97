"""The small nets of SAP (Diao et al., ICLR 2023): one linear layer, an MLP, and a CNN."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from bench.models import ModelError
from bench.models.init import initialise

NAMES = ("sap_linear", "sap_mlp", "sap_cnn")
HIDDEN = (128, 256)
WIDTHS = (64, 128, 256, 512)


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A net of the paper. Prunable weights on CIFAR-10: 30,720; 428,544; 1,555,136."""
    if name == "sap_cnn":
        return initialise(_cnn(shape, classes))
    hidden = HIDDEN if name == "sap_mlp" else ()
    return initialise(_perceptron((prod(shape), *hidden), classes))


def _perceptron(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def _cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """3x3 convolutions with batch norm and ReLU; 2x2 max-pool after the first three; mean."""
    if min(shape[1:]) < 8:
        raise ModelError(
            f"sap_cnn needs images of at least 8x8 pixels, these are {shape[1]}x{shape[2]}: "
            "its three 2x2 pools leave nothing; sap_mlp takes any size"
        )
    layers: list[nn.Module] = []
    for before, after in pairwise((shape[0], *WIDTHS)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        if after != WIDTHS[-1]:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes)
    )
