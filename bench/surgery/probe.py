"""What is traced instead of a net: a copy with gradients, and recurrent layers as linear ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bench.surgery.layers import RECURRENT
from bench.surgery.slices import Layer


class SurgeryError(ValueError):
    """A net or a choice of channels that surgery refuses; the message says why."""


class Recurrent(nn.Module):
    """What a recurrent module does to channels, in operations that the tracer knows.

    A linear layer per direction: its inputs are the module's, its outputs are the hidden units.
    """

    def __init__(self, original: nn.RNNBase) -> None:
        """Of the same widths as `original`, on the CPU; its weights do not matter."""
        super().__init__()
        self.batch_first, self.layers = original.batch_first, original.num_layers
        self.pair = isinstance(original, nn.LSTM)
        self.directions = nn.ModuleList(
            nn.Linear(original.input_size, original.hidden_size)
            for _ in range(1 + original.bidirectional)
        )

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As `nn.LSTM`, `nn.GRU` or `nn.RNN`; `state` changes no channel."""
        if not isinstance(x, Tensor) or x.dim() != 3:
            raise SurgeryError(
                "a recurrent layer is traced on batched sequences (B, T, features) only"
            )
        outputs = [linear(x.reshape(-1, x.shape[-1])) for linear in self.directions]
        states = torch.cat(outputs, 1).view(*x.shape[:2], -1)
        last = [y.view(*x.shape[:2], -1).select(1 if self.batch_first else 0, -1) for y in outputs]
        hidden = torch.stack(last * self.layers)
        return states, (hidden, hidden) if self.pair else hidden


def probe_of(
    model: nn.Module, shape: tuple[int, ...]
) -> tuple[nn.Module, dict[nn.Module, Layer], nn.Parameter]:
    """A copy to trace, its layers by module, and an input that autograd can follow."""
    probe = copy.deepcopy(model).eval().requires_grad_(True)
    layers: dict[nn.Module, Layer] = {}
    for name, module in list(probe.named_modules()):
        if isinstance(module, RECURRENT):
            stand_in = Recurrent(module).to(next(module.parameters()))
            if name:
                probe.set_submodule(name, stand_in)
            else:
                probe = stand_in
            layers |= {d: Layer(name, module) for d in stand_in.directions}
        else:
            layers[module] = Layer(name, module)
    first = next(probe.parameters())
    pixels = torch.linspace(-1, 1, 2 * int(torch.Size(shape).numel()))
    return probe, layers, nn.Parameter(pixels.view(2, *shape).to(first))
