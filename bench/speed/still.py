"""What a method leaves of a net when training changes nothing: its pattern on random weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from bench import rng
from bench.method import Method
from bench.trainer import Trainer


class Still:
    """Stands for a trainer of methods that prune once: it trains nothing and has no data."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape`: of one input."""
        self.shape, self.spec = shape, SimpleNamespace(weights=None)

    def generator(self, *stream: str) -> torch.Generator:
        """The same draws for every net and density."""
        return rng.generator("speed", *stream)

    def epochs(self, parts: int = 1) -> float:
        """None."""
        return 0.0

    def fit(self, model: nn.Module, *args: Any, **options: Any) -> None:
        """Nothing: weights stay, and so do the zeros."""

    def pruned(self, model: nn.Module) -> None:
        """Nothing is judged."""

    def log(self, event: str, **values: Any) -> None:
        """Nothing is kept."""


IMAGES = 4
"""From which batch norms take their statistics."""
BRANCH = 0.3
"""The weight of batch norms that begin with none: with 1, bf16 would change half of what a random
ResNet-50 makes of its input."""


@torch.no_grad()
def settled(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """`model` with batch norms as a training leaves them, in place; in eval mode.

    An untrained net's have seen no data, and some begin with weights of 0, which shut a branch:
    folded into the layers before them, those would be layers of zeros. They get a small weight.
    """
    norms = [m for m in model.eval().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what it sees, and it sees one batch
        if norm.affine:
            norm.weight[norm.weight == 0] = BRANCH
        norm.train()
    if norms:
        model(torch.randn(IMAGES, *shape, generator=rng.generator("speed", "images")))
    return model.eval()


def left_by(method: Method, model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The last operating point of `method` on `model`, untrained, in eval mode.

    For methods that need neither data nor gradients, such as `random` and `tensor_cnn`.
    """
    return settled(list(method.compress(model, cast(Trainer, Still(shape))))[-1], shape)
