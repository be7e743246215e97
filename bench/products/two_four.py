"""Two of four: what both libraries for NVIDIA's sparse tensor cores need of a layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import pointwise

GROUP, KEPT = 4, 2


def refusal(layer: nn.Module, rows: int, columns: int) -> str:
    """Why a layer cannot run as 2:4 with sizes in multiples of so many `rows` and `columns`."""
    if reason := pointwise.refusal(layer):
        return reason
    weight = pointwise.weights(layer)
    high, wide = weight.shape
    if high % rows or wide % columns:
        return f"{high} x {wide} weights: it takes multiples of {rows} x {columns}"
    if int((weight.view(high, -1, GROUP) != 0).sum(2).max()) > KEPT:
        return "more than two of four consecutive weights are not zero"
    return ""


class TwoFour(nn.Module):
    """Tokens (P, K) to (P, outputs) by a weight that torch keeps as 2:4, of the class `kind`."""

    def __init__(self, layer: nn.Module, kind: Any) -> None:
        super().__init__()
        self.weight = kind.from_dense(pointwise.weights(layer))
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else bias.detach()

    def forward(self, tokens: Tensor) -> Tensor:
        """One product."""
        return F.linear(tokens, self.weight, self.bias)
