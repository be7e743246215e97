"""Take a whole convolution out of a plain chain of layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.measure import meta
from bench.surgery import leaves
from bench.surgery.layers import CONVOLUTIONS
from bench.surgery.probe import SurgeryError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
BETWEEN = (*NORMS, *POOLS, *ADAPTIVE, nn.ReLU, nn.Dropout, nn.Flatten, nn.Identity)


def bypass(model: nn.Module, shape: tuple[int, ...], weight: str) -> None:
    """Put identities in the place of the convolution of `weight`, its batch norm and its ReLU.

    In place. The layer that reads them gets as many inputs as the convolution had; its weights are
    unset, so the net has to be initialised again.

    Raises:
        SurgeryError: the convolution does not stand in an `nn.Sequential` before its only reader,
            or it changes the size of the image; the message says which. The model is untouched.
    """
    name = weight.rpartition(".")[0]
    parent, _, own = name.rpartition(".")
    chain: Any = model.get_submodule(parent)
    if type(chain) is not nn.Sequential:
        raise SurgeryError(f"{name} is not in a plain chain of layers, so it cannot be taken out")
    children = list(chain.named_children())
    at = [child for child, _ in children].index(own)
    conv, after = children[at][1], children[at + 1 :]
    if not isinstance(conv, CONVOLUTIONS) or conv.groups > 1 or not _keeps_size(conv):
        raise SurgeryError(f"{name} changes the size of the image, or is no plain convolution")
    reader = _reader(after, name)
    if isinstance(reader, nn.Linear):
        inputs = {"in_features": reader.in_features // conv.out_channels * conv.in_channels}
    else:
        inputs = {"in_channels": conv.in_channels}
    gone = [own]
    for kinds in (NORMS, (nn.ReLU,)):
        if isinstance(after[len(gone) - 1][1], kinds):
            gone.append(after[len(gone) - 1][0])
    leaves.resize(reader, leaves.arguments(reader) | inputs)
    for child in gone:
        chain.set_submodule(child, nn.Identity())
    meta.forward(meta.twin(model), shape)


def _keeps_size(conv: Any) -> bool:
    if isinstance(conv.padding, str):
        return conv.padding == "same"
    sides = zip(conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    return all(s == 1 and 2 * p == d * (k - 1) for k, s, p, d in sides)


def _reader(after: list[tuple[str, nn.Module]], name: str) -> Any:
    """The layer that reads the convolution `name`, which `after` follows."""
    for place, (_, layer) in enumerate(after):
        if isinstance(layer, NORMS) and place > 0:
            raise SurgeryError(f"{name} has a batch norm that does not follow it directly")
        if isinstance(layer, nn.Linear) or (isinstance(layer, CONVOLUTIONS) and layer.groups == 1):
            return layer
        if not isinstance(layer, BETWEEN):
            raise SurgeryError(
                f"{name} is read by a {type(layer).__name__}: it cannot be taken out"
            )
    raise SurgeryError(f"{name} has no reader in its own chain of layers")
