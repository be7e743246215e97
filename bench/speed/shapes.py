"""The distinct layers of a net: what its benchmarks by layer are about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

KINDS = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class LayerShape:
    """A linear layer or 2-D convolution with its input, whatever its weights.

    `inputs`: of one sample, (C, H, W) or (tokens, features); `window`: kernel, stride, padding and
    dilation of a convolution, each (high, wide).
    """

    inputs: tuple[int, ...]
    outputs: int
    window: tuple[tuple[int, int], ...] | None
    groups: int
    bias: bool

    @property
    def name(self) -> str:
        """`conv3x3-256-512-s2-14`: kernel, channels in and out, groups, stride, side of the map."""
        if self.window is None:
            tokens = "".join(f"-{n}" for n in self.inputs[:-1])
            return f"linear-{self.inputs[-1]}-{self.outputs}{tokens}"
        kernel, stride, padding, dilation = self.window
        parts = [f"conv{kernel[0]}x{kernel[1]}", str(self.inputs[0]), str(self.outputs)]
        parts += [f"g{self.groups}"] * (self.groups > 1) + [f"s{stride[0]}"] * (stride[0] > 1)
        parts += [f"d{dilation[0]}"] * (dilation[0] > 1)
        usual = dilation[0] * (kernel[0] - 1) // 2
        parts += [f"p{padding[0]}"] * (padding[0] != usual)
        return "-".join([*parts, "x".join(str(n) for n in dict.fromkeys(self.inputs[1:]))])

    def build(self) -> nn.Module:
        """Such a layer with torch's own random weights."""
        if self.window is None:
            return nn.Linear(self.inputs[-1], self.outputs, bias=self.bias)
        kernel, stride, padding, dilation = self.window
        return nn.Conv2d(
            self.inputs[0],
            self.outputs,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=self.groups,
            bias=self.bias,
        )


def shapes(model: nn.Module, shape: tuple[int, ...]) -> dict[LayerShape, int]:
    """Each distinct plain layer that a forward pass runs, and how often; in the order of the net.

    See `calls` for `shape` and what is left out.
    """
    found: dict[LayerShape, int] = {}
    for _, layer in calls(model, shape):
        found[layer] = found.get(layer, 0) + 1
    return found


def calls(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[str, LayerShape]]:
    """The plain layers that a forward pass runs, by name, in order; twice where called twice.

    `shape`: of one input (C, H, W). A bias counts as there, since deployment folds a norm into it.
    Layers that are no `nn.Linear` or `nn.Conv2d` are left out, as are linear layers that are never
    called as such (attention's input projections, in some nets).
    """
    found: list[tuple[str, LayerShape]] = []

    def seen(name: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append((name, _shape(layer, tuple(args[0].shape[1:]))))

    hooks = [
        module.register_forward_pre_hook(partial(seen, name))
        for name, module in model.named_modules()
        if type(module) in KINDS
    ]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _shape(layer: nn.Module, inputs: tuple[int, ...]) -> LayerShape:
    make = partial(LayerShape, inputs, bias=True)
    if isinstance(layer, nn.Linear):
        return make(layer.out_features, None, 1)
    assert isinstance(layer, nn.Conv2d)
    if isinstance(layer.padding, str):
        raise ValueError(f"padding given as {layer.padding!r}; give numbers")
    window = tuple(
        (int(pair[0]), int(pair[1]))
        for pair in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    return make(layer.out_channels, window, layer.groups)
