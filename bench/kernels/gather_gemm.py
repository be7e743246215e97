"""The gathering path of our own: convolutions and linear layers that keep columns, or k of n.

As in `bench.products.gather_gemm`, by Triton; what follows a layer (a sum with a shortcut, a ReLU)
is done before its result is stored (`bench.products.after`). It takes any zeros: tensor cores where
16 outputs or more share their inputs, plain multiply-adds where each has its own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import nn

from bench import env
from bench.products import (
    after,
    blocks,
    compiled,
    cudnn,
    gather_gemm,
    geometry,
    lowering,
    search,
)

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)


def refusal(layer: nn.Module) -> str:
    """Why this layer stays dense; empty if it does not."""
    return gather_gemm.refusal(layer) if find_spec("triton") else "Triton is not installed"


supports, by_layer = lowering.by_layer(refusal, gather_gemm.Gathered)


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along.

    Convolutions that stay dense are cuDNN's.
    """
    return cudnn.beside(by_layer(model), gather_gemm.Gathered)


def version() -> str:
    """A digest of the code: what was measured with other code is not taken for today's."""
    kernel = Path(gather_gemm.__file__).with_name("gather_gemm_kernel.py")
    own = compiled.digest(after, blocks, cudnn, gather_gemm, geometry, lowering, search, kernel)
    return f"gather_gemm {own} triton {env.installed('triton')}"
