"""The cuDNN path: dense convolutions as strong as torch can run them on a GPU without compiling.

A bias, a sum with a shortcut and a ReLU done by the convolution's own kernel
(`bench.products.cudnn`). torch's eager layers add a bias in a pass of its own, and so do compiled
nets.
"""

from __future__ import annotations

from torch import nn

from bench.products import after, cudnn, lowering

DTYPES = {"cuda": ("fp32", "tf32", "fp16", "bf16")}
LAYOUTS = ("nhwc",)
ZEROS = False
BASELINE = True
supports, by_layer = lowering.by_layer(cudnn.refusal, cudnn.Convolution)


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along."""
    return after.taken(by_layer(model), cudnn.Convolution)


def applies(model: nn.Module, dense: nn.Module) -> tuple[bool, str]:
    """Any net with a layer for it, pruned or not; zeros are multiplied like any number."""
    verdicts = [supports(module, name) for name, module in model.named_modules()]
    able = any(verdict for verdict, _ in verdicts)
    return able, "" if able else "no 2-D convolution"
