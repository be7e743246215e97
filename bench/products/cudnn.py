"""Dense 2-D convolutions by cuDNN with what follows in the same kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.products import after, lowering
from bench.products.geometry import geometry


def refusal(layer: nn.Module) -> str:
    """Why this layer stays as it is; empty if it does not."""
    if type(layer) is not nn.Conv2d:
        return f"{type(layer).__name__} is no plain 2-D convolution"
    return lowering.padding(layer)


class Convolution(nn.Module):
    """A 2-D convolution; see `bench.products.after` for `low`, `high`, `adds`.

    cuDNN has no operator with a bias that lacks the ReLU: without one it is torch's own layer.
    """

    low, high, adds = -math.inf, math.inf, True

    def __init__(self, layer: nn.Module) -> None:
        """`layer`: one that `refusal` has nothing against."""
        super().__init__()
        self.layer = layer
        self.geometry = geometry(layer)

    @property
    def weight(self) -> Tensor:
        """The layer's own: some nets ask for its dtype."""
        return self.layer.get_parameter("weight")

    def forward(self, input: Tensor, add: Tensor | None = None) -> Tensor:
        """As the layer, plus `add`, within the bounds."""
        if (self.low, self.high) == after.RELU:
            g, bias = self.geometry, getattr(self.layer, "bias", None)
            how = (g.stride, g.padding, g.dilation, g.groups)
            if add is None:
                return torch.cudnn_convolution_relu(input, self.weight, bias, *how)
            shape = (len(input), g.outputs, *g.places(*input.shape[2:]))
            if add.shape == shape and add.dtype == input.dtype:
                return torch.cudnn_convolution_add_relu(input, self.weight, add, 1.0, bias, *how)
        made = self.layer(input)
        made = made if add is None else made + add
        bounded = (self.low, self.high) != (-math.inf, math.inf)
        return made.clamp(self.low, self.high) if bounded else made


supports, by_layer = lowering.by_layer(refusal, Convolution)


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along."""
    return after.taken(by_layer(model), Convolution)


def beside(model: nn.Module, product: type[nn.Module]) -> nn.Module:
    """A net in which a path made some layers a `product`: cuDNN does the convolutions that stay.

    Products that can take along what follows them (`bench.products.after`) do.
    """
    if not any(isinstance(module, product) for module in model.modules()):
        return model
    kinds = (Convolution, product) if hasattr(product, "adds") else (Convolution,)
    return after.taken(by_layer(model), kinds, (product,))
