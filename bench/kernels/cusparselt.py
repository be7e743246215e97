"""The 2:4 path through cuSPARSELt, with its algorithm searched for every number of tokens.

Linear layers and 1x1 convolutions as in `bench.products.pointwise`; both sizes are multiples of 16.
The output is written as rows (fused transposition): as columns, whatever follows would pay for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.products import pointwise, two_four

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)
supports, convert = pointwise.by_layer(
    lambda layer: two_four.refusal(layer, 16, 16), lambda layer: Searched(layer)
)


def version() -> str:
    """`cusparselt 8001`, as torch sees it; empty without it."""
    found = torch.backends.cusparselt.version() if torch.cuda.is_available() else None
    return f"cusparselt {found}" if found else ""


class Searched(two_four.TwoFour):
    """A 2:4 product that looks for its fastest algorithm at the first call with a new shape."""

    def __init__(self, layer: nn.Module) -> None:
        from torch.sparse import SparseSemiStructuredTensor, SparseSemiStructuredTensorCUSPARSELT

        SparseSemiStructuredTensor._FUSE_TRANSPOSE = True
        super().__init__(layer, SparseSemiStructuredTensorCUSPARSELT)
        self.searched: dict[torch.Size, int] = {}

    def forward(self, tokens: Tensor) -> Tensor:
        """One product; the search is part of the first call."""
        if tokens.shape not in self.searched:
            self.searched[tokens.shape] = torch._cslt_sparse_mm_search(
                self.weight.packed,
                pointwise.padded(tokens, 8).t(),
                bias=self.bias,
                transpose_result=True,
            )
        self.weight.alg_id_cusparselt = self.searched[tokens.shape]
        return super().forward(tokens)
