"""The gradients of a training's own batches, as the backward pass makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn


def gradient(parameter: Tensor) -> Tensor:
    """A copy of the gradient."""
    assert parameter.grad is not None
    return parameter.grad.clone()


def product(parameter: Tensor) -> Tensor:
    """The value times the gradient: minus the first-order change of the loss without it."""
    assert parameter.grad is not None
    return parameter.detach() * parameter.grad


class Gradients:
    """`found`: what `take` makes of each parameter's value and gradient in the last step.

    Both are those of the forward pass: before a training masks gradients and steps values.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], take: Callable[[Tensor], Tensor] = gradient
    ) -> None:
        self.parameters, self.take = parameters, take
        self.found: dict[str, Tensor] = {}
        self.handles: list[torch.utils.hooks.RemovableHandle] = []

    def watch(self) -> None:
        """Take from the next backward pass on."""

        def keep(name: str, parameter: Tensor) -> None:
            self.found[name] = self.take(parameter)

        self.handles = [
            parameter.register_post_accumulate_grad_hook(partial(keep, name))
            for name, parameter in self.parameters.items()
        ]

    def stop(self) -> None:
        """Take no more."""
        for handle in self.handles:
            handle.remove()
