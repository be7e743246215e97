"""The 2:4 path through CUTLASS, as torch brings it.

Linear layers and 1x1 convolutions as in `bench.products.pointwise`; outputs are multiples of 32,
inputs of 64.
"""

from __future__ import annotations

from torch import nn

from bench.products import lowering, pointwise, two_four

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)
supports, convert = lowering.by_layer(
    lambda layer: two_four.refusal(layer, 32, 64),
    lambda layer: pointwise.Pointwise(layer, Compressed(layer)),
)


class Compressed(two_four.TwoFour):
    """A 2:4 product by CUTLASS."""

    def __init__(self, layer: nn.Module) -> None:
        from torch.sparse import SparseSemiStructuredTensorCUTLASS

        super().__init__(layer, SparseSemiStructuredTensorCUTLASS)
