"""Layers that surgery rebuilds: what they were constructed with, and how to change their size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
CONVOLUTION_END = ("dilation", "groups", "bias", "padding_mode")
NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
ARGUMENTS: dict[type[nn.Module], tuple[str, ...]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), (*CONVOLUTION, *CONVOLUTION_END)),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        (*CONVOLUTION, "output_padding", *CONVOLUTION_END),
    ),
    nn.Linear: ("in_features", "out_features", "bias"),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), NORM),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), NORM),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.PReLU: ("num_parameters",),
    nn.RNN: (*RECURRENT, "bidirectional", "nonlinearity"),
    nn.GRU: (*RECURRENT, "bidirectional"),
    nn.LSTM: (*RECURRENT, "bidirectional", "proj_size"),
    nn.ChannelShuffle: ("groups",),
    nn.Identity: (),
}
KINDS = {kind.__name__: kind for kind in ARGUMENTS}


def kind(module: nn.Module) -> type[nn.Module] | None:
    """The torch layer that `module` is, or inherits from; None if it is none of `ARGUMENTS`."""
    return next((base for base in type(module).__mro__ if base in ARGUMENTS), None)


def arguments(module: nn.Module) -> dict[str, Any]:
    """What the torch layer is constructed with to get the shapes and settings of `module`."""
    base = kind(module)
    if base is None:
        raise TypeError(f"{type(module).__name__} is not a layer that surgery can rebuild")
    values = {name: getattr(module, name) for name in ARGUMENTS[base]}
    if "bias" in values and not isinstance(values["bias"], bool):
        values["bias"] = values["bias"] is not None
    return values


def construct(base: type[nn.Module], values: dict[str, Any], device: str = "cpu") -> nn.Module:
    """`base(**values)` with memory that nobody has written to; draws no random numbers.

    Lists (JSON knows no tuples) become tuples.
    """
    options: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
    }
    if base in (nn.Identity, nn.ChannelShuffle):  # they hold nothing, so take no device
        return base(**options)
    layer = base(**options, device="meta")
    return layer if device == "meta" else layer.to_empty(device=device)


@torch.no_grad()
def resize(module: nn.Module, values: dict[str, Any]) -> None:
    """Give `module` the size that `values` describe, in place; tensors that change are unset.

    A subclass (timm has many) keeps its class and everything that its constructor added.
    """
    base = kind(module)
    if base is None:
        raise TypeError(f"{type(module).__name__} is not a layer that surgery can rebuild")
    sized = construct(base, values, device="meta")
    for name in (*ARGUMENTS[base], "_reversed_padding_repeated_twice"):
        if name != "bias" and hasattr(sized, name):
            setattr(module, name, getattr(sized, name))
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for name, tensor in (*sized.named_parameters(), *sized.named_buffers()):
        if name in own and own[name].shape != tensor.shape:
            # through .data the tensor stays the same object: ties and flat weight lists hold
            own[name].data = torch.empty(
                tensor.shape, dtype=own[name].dtype, device=own[name].device
            )
            own[name].grad = None
