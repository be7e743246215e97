"""The masked-dense path: a pruned net whose zeros are stored and multiplied by the dense kernels.

What most papers' nets run as. It should tie with the dense baseline; where it does not, the
numbers' values matter (power, sub-normals), not the sparsity.
"""

from __future__ import annotations

from torch import nn

from bench.kernels.dense import shapes

DTYPES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "fp16", "bf16")}
ZEROS = False


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Zeros are numbers to a dense kernel."""
    return True, ""


def applies(model: nn.Module, dense: nn.Module) -> tuple[bool, str]:
    """Nets that kept the dense net's shapes."""
    if shapes(model) == shapes(dense):
        return True, ""
    return (
        False,
        "channels were removed, so the weights are smaller, not masked; the dense path runs them",
    )


def convert(model: nn.Module) -> nn.Module:
    """The net as it is, zeros and all."""
    return model
