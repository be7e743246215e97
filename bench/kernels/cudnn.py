"""The cuDNN path: dense convolutions as strong as torch can run them on a GPU without compiling.

A bias, a sum with a shortcut and a ReLU done by the convolution's own kernel
(`bench.products.cudnn`). torch's eager layers add a bias in a pass of its own, and so do compiled
nets.
"""

from __future__ import annotations

import torch

from bench.products import after, compiled, cudnn, geometry, lowering

DTYPES = {"cuda": ("fp32", "tf32", "fp16", "bf16")}
LAYOUTS = ("nhwc",)
ZEROS = False
BASELINE = True
supports, convert = cudnn.supports, cudnn.convert
applies = lowering.any_layer(supports, "2-D convolution")


def version() -> str:
    """Of cuDNN, and a digest of the code."""
    own = compiled.digest(after, cudnn, geometry, lowering)
    return f"cudnn {torch.backends.cudnn.version()} {own}"
