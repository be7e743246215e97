"""The embedding-bag path: each output as a weighted sum of the input rows that it keeps.

torch's embedding_bag, a gather kernel, is a sparse matrix product under another name; k of n
weights for each output are bags of k entries, unstructured zeros are bags of different sizes. On
x86 CPUs FBGEMM runs it with vector instructions. Linear layers and 2-D convolutions as in
`bench.products.lowering`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import lowering

DTYPES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16")}
LAYOUTS = ("nchw",)
supports, convert = lowering.by_layer(
    lowering.refusal, lambda layer: lowering.Lowered(layer, Bags(layer))
)


class Bags(nn.Module):
    """(K, P) to (outputs, P): a bag of input rows for each output, and a bias."""

    rows: Tensor
    starts: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        matrix = lowering.csr(layer)
        self.register_buffer("rows", matrix.col_indices())
        self.register_buffer("starts", matrix.crow_indices()[:-1])
        self.register_buffer("values", matrix.values())
        bias = getattr(layer, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach()[:, None])

    def forward(self, columns: Tensor) -> Tensor:
        """One gather."""
        sums = F.embedding_bag(
            self.rows, columns, self.starts, mode="sum", per_sample_weights=self.values
        )
        return sums if self.bias is None else sums.add_(self.bias)
