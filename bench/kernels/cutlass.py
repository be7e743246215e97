"""The 2:4 path through CUTLASS, as torch brings it.

Linear layers and 1x1 convolutions as in `bench.products.pointwise`; outputs are multiples of 32,
inputs of 64.
"""

from __future__ import annotations

import torch
from torch import nn

from bench.products import pointwise, two_four

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)
GENERATION = 8


def refusal(layer: nn.Module) -> str:
    """Why this layer stays dense; empty if it does not."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] != GENERATION:
        return f"torch's CUTLASS kernels run on GPUs of compute capability {GENERATION}.x only"
    return two_four.refusal(layer, 32, 64)


supports, convert = pointwise.by_layer(refusal, lambda layer: Compressed(layer))


class Compressed(two_four.TwoFour):
    """A 2:4 product by CUTLASS."""

    def __init__(self, layer: nn.Module) -> None:
        from torch.sparse import SparseSemiStructuredTensorCUTLASS

        super().__init__(layer, SparseSemiStructuredTensorCUTLASS)
