"""Where a channel lives: the places in a layer's tensors that belong to one input or output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from bench.surgery.layers import CONVOLUTIONS, RECURRENT, TRANSPOSED

GATES = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}


class Entry(NamedTuple):
    """A tensor of the net and its axis; `output`: the channel is made there, not read there."""

    name: str
    axis: int
    output: bool


@dataclass(frozen=True)
class Layer:
    """A module of the net and its dotted name."""

    name: str
    module: nn.Module

    def full(self, tensor: str) -> str:
        """The dotted name of one of the module's tensors."""
        return f"{self.name}.{tensor}" if self.name else tensor


def places(layer: Layer, side: str, index: int) -> Iterator[tuple[Entry, int]]:
    """Each tensor, axis and index of channel `index` on `side` ("in", "out") of a layer.

    A layer that keeps its channels apart (batch norm, PReLU) has only the side "out".
    """
    module: Any = layer.module
    if isinstance(module, RECURRENT):
        yield from _recurrent(layer, module, side, index)
    elif isinstance(module, TRANSPOSED):
        yield from _transposed(layer, module, side, index)
    elif isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        groups = getattr(module, "groups", 1)
        inside = module.weight.shape[1]
        if side == "out":
            yield Entry(layer.full("weight"), 0, True), index
            yield from _vectors(layer, ("bias",), index)
        elif groups == 1 or inside > 1:  # a depthwise input has no axis of its own
            yield Entry(layer.full("weight"), 1, False), index % inside
    elif not (isinstance(module, nn.PReLU) and module.num_parameters == 1):
        yield from _vectors(layer, ("weight", "bias", "running_mean", "running_var"), index)


def _vectors(layer: Layer, names: tuple[str, ...], index: int) -> Iterator[tuple[Entry, int]]:
    for name in names:
        if getattr(layer.module, name, None) is not None:
            yield Entry(layer.full(name), 0, True), index


def _transposed(layer: Layer, module: Any, side: str, index: int) -> Iterator[tuple[Entry, int]]:
    """The weight of a transposed convolution is (in, out / groups, *kernel)."""
    inside, outside = module.in_channels // module.groups, module.weight.shape[1]
    depthwise = module.groups > 1 and inside == 1
    if side == "out":
        yield from _vectors(layer, ("bias",), index)
        if not depthwise:
            yield Entry(layer.full("weight"), 1, True), index % outside
    else:
        yield Entry(layer.full("weight"), 0, depthwise), index


def _recurrent(
    layer: Layer, module: nn.RNNBase, side: str, index: int
) -> Iterator[tuple[Entry, int]]:
    """Unit j: row j of every gate, both biases, and column j of what reads it, in all layers.

    The layers and directions of one module have a single `hidden_size`, so they lose unit j
    together.
    """
    directions = ("", "_reverse") if module.bidirectional else ("",)
    if side == "in":
        for suffix in directions:
            yield Entry(layer.full(f"weight_ih_l0{suffix}"), 1, False), index
        return
    kind = next(k for k in GATES if isinstance(module, k))
    vectors = ("bias_ih", "bias_hh") if module.bias else ()
    for depth in range(module.num_layers):
        for suffix in directions:
            for tensor in ("weight_ih", "weight_hh", *vectors):
                name = layer.full(f"{tensor}_l{depth}{suffix}")
                for gate in range(GATES[kind]):
                    yield Entry(name, 0, True), gate * module.hidden_size + index
            yield Entry(layer.full(f"weight_hh_l{depth}{suffix}"), 1, False), index
            if depth:  # reads the states of both directions of the layer below
                for half in range(len(directions)):
                    column = half * module.hidden_size + index
                    yield Entry(layer.full(f"weight_ih_l{depth}{suffix}"), 1, False), column
