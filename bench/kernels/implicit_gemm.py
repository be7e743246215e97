"""The block-sparse path of our own: convolutions and linear layers whose zeros come in tiles.

As in `bench.products.implicit_gemm`, on tensor cores, by Triton; what follows a layer (a sum with a
shortcut, a ReLU) is done before its result is stored (`bench.products.after`).
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
    geometry,
    implicit_gemm,
    lowering,
    search,
)

DTYPES = {"cuda": ("fp16", "bf16")}
LAYOUTS = ("nhwc",)


def refusal(layer: nn.Module) -> str:
    """Why this layer stays dense; empty if it does not."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    return implicit_gemm.refusal(layer)


supports, by_layer = lowering.by_layer(refusal, implicit_gemm.Tiles)


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along.

    Convolutions that stay dense are cuDNN's.
    """
    return cudnn.beside(by_layer(model), implicit_gemm.Tiles)


def version() -> str:
    """A digest of the code: what was measured with other code is not taken for today's."""
    kernel = Path(implicit_gemm.__file__).with_name("implicit_gemm_kernel.py")
    own = compiled.digest(after, blocks, cudnn, geometry, implicit_gemm, lowering, search, kernel)
    return f"implicit_gemm {own} triton {env.installed('triton')}"
