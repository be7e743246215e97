"""The block-sparse path of our own: convolutions and linear layers whose zeros come in tiles.

As in `bench.products.implicit_gemm`, on tensor cores, by Triton; what follows a layer (a sum with a
shortcut, a ReLU) is done before its result is stored (`bench.products.after`).
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from bench.kernels import cudnn
from bench.products import after, compiled, implicit_gemm, lowering
from bench.products import cudnn as dense

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

    The dense convolutions that stay are those of the path `cudnn`.
    """
    made = by_layer(model)
    if not any(isinstance(module, implicit_gemm.Tiles) for module in made.modules()):
        return made
    return cudnn.convert(after.taken(made, implicit_gemm.Tiles))


def version() -> str:
    """A digest of the code: what was measured with other code is not taken for today's."""
    return f"implicit_gemm {compiled.digest(after, dense, implicit_gemm)}"
