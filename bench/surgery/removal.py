"""Take places out of the tensors of a net and give its layers the sizes that are left."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.surgery import leaves
from bench.surgery.layers import CONVOLUTIONS, RECURRENT, TRANSPOSED
from bench.surgery.slices import GATES


def without(model: nn.Module, lost: Mapping[tuple[str, int], Tensor]) -> nn.Module:
    """A copy of `model` that lacks the places `lost`: (tensor name, axis) -> int64 indices.

    Raises:
        ValueError: a tensor would be left empty; the message names it.
    """
    smaller = copy.deepcopy(model)
    smaller.zero_grad()
    old = {name: tensor.detach() for name, tensor in tensors(smaller).items()}
    new = _select(old, lost)
    touched: dict[str, dict[str, torch.Size]] = defaultdict(dict)
    for name, tensor in new.items():
        owner, _, short = name.rpartition(".")
        touched[owner][short] = tensor.shape
    for owner, shapes in touched.items():
        module = smaller.get_submodule(owner)
        if leaves.kind(module) is not None:
            leaves.resize(module, _arguments(module, shapes))
    for name, tensor in tensors(smaller).items():
        if name in new:
            tensor.data = new[name]
    for module in smaller.modules():
        if isinstance(module, RECURRENT):
            module.flatten_parameters()
    return smaller


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by dotted name."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _select(old: Mapping[str, Tensor], lost: Mapping[tuple[str, int], Tensor]) -> dict[str, Tensor]:
    new: dict[str, Tensor] = {}
    for (name, axis), index in lost.items():
        tensor = new.get(name, old[name])
        stays = torch.ones(tensor.shape[axis], dtype=torch.bool)
        stays[index] = False
        if not stays.any():
            raise ValueError(f"nothing of {name} would be left; keep one channel at least")
        new[name] = tensor.index_select(axis, stays.nonzero().flatten().to(tensor.device))
    return new


def _arguments(module: Any, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
    """What a layer would be constructed with if its tensors had `shapes`."""
    values = leaves.arguments(module)
    first: torch.Size = next(iter(shapes.values()))
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        values |= _convolution(module, shapes)
    elif isinstance(module, nn.Linear):
        rows, columns = shapes.get("weight", module.weight.shape)
        values |= {"in_features": columns, "out_features": rows}
    elif isinstance(module, RECURRENT):
        gates = next(count for kind, count in GATES.items() if isinstance(module, kind))
        own: Any = module.weight_ih_l0
        rows, columns = shapes.get("weight_ih_l0", own.shape)
        values |= {"input_size": columns, "hidden_size": rows // gates}
    elif isinstance(module, nn.PReLU):
        values["num_parameters"] = first[0]
    else:  # batch and instance norm: every tensor has a number per channel
        values["num_features"] = first[0]
    return values


def _convolution(module: Any, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
    weight = shapes.get("weight", module.weight.shape)
    turned = isinstance(module, TRANSPOSED)
    groups = module.groups
    if groups > 1 and groups == module.in_channels:  # depthwise: the groups are the channels
        groups = weight[0] if turned else weight[0] * groups // module.out_channels
    if turned:
        return {"in_channels": weight[0], "out_channels": weight[1] * groups, "groups": groups}
    return {"in_channels": weight[1] * groups, "out_channels": weight[0], "groups": groups}


@torch.no_grad()
def scatter(model: nn.Module, stream: torch.Generator) -> None:
    """Draw every vector anew between 1/2 and 3/2, and matrices that are all zero, in place.

    Fresh nets have zero biases, some zero scales and some zero classifiers, behind which a
    misplaced channel could hide.
    """
    for tensor in tensors(model).values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=stream) + 0.5)
        elif tensor.dim() > 1 and not tensor.any():
            scale = tensor[0].numel() ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=stream) * scale)


@torch.no_grad()
def difference(first: nn.Module, second: nn.Module, shape: tuple[int, ...]) -> float:
    """The largest difference of two nets' outputs over the largest output; float64, eval mode.

    Both nets are converted in place.
    """
    place = next(first.parameters()).device
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=stream, dtype=torch.float64).to(place)
    one, other = (net.double().eval()(x) for net in (first, second))
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))
