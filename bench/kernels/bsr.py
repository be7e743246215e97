"""The block-sparse path through torch.sparse: BSR with torch's own parameters (MKL, Triton).

Linear layers and 1x1 convolutions as in `bench.products.pointwise`, whose zeros are in square
blocks of 16, 32 or 64. On a GPU torch has tuned its kernel for the A100 alone; elsewhere it warns
and does not pipeline: see `bsr_tuned`.
"""

from __future__ import annotations

from torch import nn

from bench.products import blocks, lowering, pointwise

DTYPES = {"cpu": ("fp32",), "cuda": ("fp16", "bf16")}
MODES = ("eager", "graph")  # torch.compile takes no sparse layouts
LAYOUTS = ("nhwc",)


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Linear layers and 1x1 convolutions with at least half of the weights in blocks of zeros."""
    reason = blocks.refusal(layer)
    return not reason, reason


def convert(model: nn.Module) -> nn.Module:
    """The net with its block-sparse layers as BSR products."""
    return lowering.replace(
        model, supports, lambda layer: pointwise.Pointwise(layer, blocks.Blocks(layer))
    )
