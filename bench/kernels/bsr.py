"""The block-sparse path through torch.sparse: BSR with torch's own parameters (MKL, Triton).

Linear layers and 1x1 convolutions as in `bench.products.pointwise`, whose zeros are in square
blocks of 16, 32 or 64. On a GPU torch has tuned its kernel for the A100 alone; elsewhere it warns
and does not pipeline: see `bsr_tuned`.
"""

from __future__ import annotations

from bench.products import blocks, pointwise

DTYPES = {"cpu": ("fp32",), "cuda": ("fp16", "bf16")}
MODES = ("eager", "graph")  # torch.compile takes no sparse layouts
LAYOUTS = ("nhwc",)
supports, convert = pointwise.by_layer(blocks.refusal, blocks.Blocks)
