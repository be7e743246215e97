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
supports, convert = lowering.by_layer(
    lowering.refusal, lambda layer: lowering.Lowered(layer, Csr(layer))
)


class Csr(nn.Module):
    """(K, P) to (outputs, P) by a CSR matrix and a bias."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.matrix = lowering.csr(layer)
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else bias.detach()[:, None]

    def forward(self, columns: Tensor) -> Tensor:
        """One sparse product."""
        if self.bias is None:
            return self.matrix @ columns
        return torch.addmm(self.bias, self.matrix, columns)
