"""The oneDNN path: dense layers as strong as torch can run them on a CPU.

The operators that torch's compiler calls: weights reordered once for the processor, sums and ReLUs
done by the layer (`bench.products.after`). torch's eager layers reorder weights in every call, and
leave some shapes to other kernels (1x1 convolutions in fp32 on one thread).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.products import after, lowering
from bench.products.geometry import geometry

DTYPES = {"cpu": ("fp32", "bf16")}
MODES = ("eager",)  # compiled nets call these operators by themselves
ZEROS = False
BASELINE = True
BOUNDS: dict[tuple[float, float], tuple[str, list[float]]] = {
    (-math.inf, math.inf): ("none", []),
    (0.0, math.inf): ("relu", []),
    (0.0, 6.0): ("hardtanh", [0.0, 6.0]),
}


def refusal(layer: nn.Module) -> str:
    """Why this layer stays as it is; empty if it does not."""
    if not torch.backends.mkldnn.is_available():
        return "this torch was built without oneDNN"
    if not lowering.plain(layer):
        return f"{type(layer).__name__} is no plain linear layer or 2-D convolution"
    return lowering.padding(layer)


supports, by_layer = lowering.by_layer(refusal, lambda layer: OneDnn(layer))
applies = lowering.any_layer(supports, "linear layer or 2-D convolution")


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along."""
    return after.taken(by_layer(model), OneDnn)


class OneDnn(nn.Module):
    """A linear layer or 2-D convolution; see `bench.products.after` for `low`, `high`, `adds`."""

    low, high = -math.inf, math.inf

    def __init__(self, layer: nn.Module) -> None:
        """`layer`: supported; its weights are not to change any more."""
        super().__init__()
        self.layer = layer
        self.adds = isinstance(layer, nn.Conv2d)
        self.ordered: dict[tuple[int, ...], Tensor] = {}

    @property
    def weight(self) -> Tensor:
        """The layer's own: some nets ask for its dtype."""
        return self.layer.get_parameter("weight")

    def forward(self, input: Tensor, add: Tensor | None = None) -> Tensor:
        """As the layer; of a convolution plus `add`; within the bounds."""
        layer: Any = self.layer
        how, numbers = BOUNDS[self.low, self.high]
        shape = tuple(input.shape)
        ops = torch.ops.mkldnn
        if not self.adds:
            if shape not in self.ordered:
                tokens = input.numel() // shape[-1]
                self.ordered[shape] = ops._reorder_linear_weight(layer.weight, tokens)
            return ops._linear_pointwise(input, self.ordered[shape], layer.bias, how, numbers, "")
        window = (layer.padding, layer.stride, layer.dilation, layer.groups)
        if shape not in self.ordered:
            self.ordered[shape] = ops._reorder_convolution_weight(
                layer.weight, *window, list(shape)
            )
        own = (self.ordered[shape], layer.bias, *window)
        if add is None:
            return ops._convolution_pointwise(input, *own, how, numbers, "")
        if not self.fits(shape, add):
            made = ops._convolution_pointwise(input, *own, "none", [], "")
            return (made + add).clamp(self.low, self.high)
        fused = how if how == "relu" else None  # after a sum it knows no other
        made = ops._convolution_pointwise.binary(input, add, *own, "add", None, fused, [], "")
        return made.clamp_(self.low, self.high) if how == "hardtanh" else made

    def fits(self, shape: tuple[int, ...], add: Tensor) -> bool:
        """Whether something to add has the shape of the result; oneDNN does not look."""
        known = geometry(self.layer)
        return tuple(add.shape) == (shape[0], known.outputs, *known.places(*shape[2:]))
