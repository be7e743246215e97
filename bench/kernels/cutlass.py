"""The 2:4 path through CUTLASS, as torch brings it.

Linear layers and 1x1 convolutions as in `bench.products.pointwise`; outputs are multiples of 32,
inputs of 64.
"""

from __future__ import annotations

from torch import nn

from bench.products import lowering, pointwise, two_four

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Linear layers and 1x1 convolutions with two of four weights at zero, sizes 32n x 64m."""
    reason = two_four.refusal(layer, 32, 64)
    return not reason, reason


def convert(model: nn.Module) -> nn.Module:
    """The net with its 2:4 layers compressed."""
    from torch.sparse import SparseSemiStructuredTensorCUTLASS

    return lowering.replace(
        model,
        supports,
        lambda layer: pointwise.Pointwise(
            layer, two_four.TwoFour(layer, SparseSemiStructuredTensorCUTLASS)
        ),
    )
