"""The dense path: the vendor's dense kernels at the net's stored shapes.

The unpruned net runs here (the baseline), and so does a net whose channels were physically removed:
its smaller shapes are where the gain is. Zeros that remain in such a net are multiplied like any
number.
"""

from __future__ import annotations

from torch import nn

from bench.surgery.layers import prunable

DTYPES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "fp16", "bf16")}
BASELINE, ZEROS = True, False


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Every layer has a dense kernel."""
    return True, ""


def applies(model: nn.Module, dense: nn.Module) -> tuple[bool, str]:
    """The dense net itself and nets of other shapes; the same shapes are `masked_dense`'s."""
    if model is dense or shapes(model) != shapes(dense):
        return True, ""
    return False, "no channel was removed; the same shapes with zeros in them run as masked_dense"


def convert(model: nn.Module) -> nn.Module:
    """The net as it is."""
    return model


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of every prunable weight."""
    return {name: tuple(weight.shape) for name, weight in prunable(model).items()}
