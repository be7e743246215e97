"""The CSR path: unstructured zeros through the vendor's sparse matrix product (MKL, cuSPARSE).

Linear layers and 2-D convolutions as in `bench.products.lowering`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.products import lowering

DTYPES = {"cpu": ("fp32",), "cuda": ("fp32", "fp16", "bf16")}
MODES = ("eager", "graph")  # torch.compile takes no sparse layouts
LAYOUTS = ("nchw",)


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Linear layers and 2-D convolutions with at least half of the weights at zero."""
    reason = lowering.refusal(layer)
    return not reason, reason


def convert(model: nn.Module) -> nn.Module:
    """The net with its sparse layers as CSR products."""
    return lowering.replace(model, supports, lambda layer: lowering.Lowered(layer, Csr(layer)))


class Csr(nn.Module):
    """(K, P) to (outputs, P) by a CSR matrix and a bias."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.matrix = lowering.matrix(layer)
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else bias.detach()[:, None]

    def forward(self, columns: Tensor) -> Tensor:
        """One sparse product."""
        if self.bias is None:
            return self.matrix @ columns
        return torch.addmm(self.bias, self.matrix, columns)
