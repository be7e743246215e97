"""What each prunable weight is multiplied with, as the matrix of its matrix product.

A weight of (out, in / groups, *kernel) is a matrix (out, columns), and a forward pass multiplies it
with a matrix X of a column for each sample and place: the unfolded image of a convolution, the time
steps of a recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.surgery.layers import prunable
from bench.surgery.patterns import PatternError


def squares(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Weight name -> the squared norm of each row of X, float64 (groups, columns)."""
    return _summed(model, batches, lambda x: x.square().sum(2))


def grams(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Weight name -> X X^T / places, float64 (groups, columns, columns)."""
    places: dict[str, int] = {}
    summed = _summed(model, batches, lambda x: x @ x.transpose(1, 2), places)
    return {name: total / places[name] for name, total in summed.items()}


def _summed(
    model: nn.Module,
    batches: Iterable[Tensor],
    reduce: Callable[[Tensor], Tensor],
    places: dict[str, int] | None = None,
) -> dict[str, Tensor]:
    """The sum of `reduce(X)` over batches, X: (groups, columns, places)."""
    found: dict[str, Tensor] = {}
    for batch in batches:
        for name, x in passed(model, prunable(model), batch).items():
            part = reduce(x.double())
            found[name] = found[name] + part if name in found else part
            if places is not None:
                places[name] = places.get(name, 0) + x.shape[2]
    return found


@torch.no_grad()
def passed(model: nn.Module, names: Iterable[str], batch: Tensor) -> dict[str, Tensor]:
    """X of the weights `names` in a forward pass of `batch`: (groups, columns, places).

    Raises `PatternError` for a weight whose inputs are not known.
    """
    found: dict[str, Tensor] = {}
    wanted: dict[str, list[str]] = {}
    for name in names:
        owner, _, own = name.rpartition(".")
        wanted.setdefault(owner, []).append(own)

    def hook(owner: str) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            for own, x in operands(module, args[0], output).items():
                if own in wanted[owner]:
                    found[f"{owner}.{own}" if owner else own] = x

        return see

    modules = dict(model.named_modules())
    handles = [modules[owner].register_forward_hook(hook(owner)) for owner in wanted]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    names = [f"{owner}.{own}" if owner else own for owner in wanted for own in wanted[owner]]
    if missing := [name for name in names if name not in found]:
        raise PatternError(f"no forward pass reads {', '.join(missing)}")
    return {name: found[name] for name in names}


def operands(module: nn.Module, x: Tensor, output: Any) -> dict[str, Tensor]:
    """Each prunable weight of `module` -> X of this forward pass, (groups, columns, places)."""
    if isinstance(module, nn.Linear):
        return {"weight": x.flatten(0, -2).T[None]}
    if isinstance(module, nn.Conv2d):
        return {"weight": _unfolded(module, x)}
    if isinstance(module, nn.RNNBase) and module.num_layers == 1 and not module.bidirectional:
        time = int(module.batch_first)
        hidden = output[0]
        before = torch.zeros_like(hidden).narrow(time, 0, 1)  # the first state is zero
        hidden = torch.cat([before, hidden.narrow(time, 0, hidden.shape[time] - 1)], time)
        flat = {"weight_ih_l0": x, "weight_hh_l0": hidden}
        return {name: t.flatten(0, -2).T[None] for name, t in flat.items()}
    raise PatternError(f"what {type(module).__name__} multiplies its weights with is not known")


def _unfolded(module: nn.Conv2d, x: Tensor) -> Tensor:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise PatternError(f"padding {module.padding_mode} {module.padding} is not supported")
    kernel = (module.kernel_size[0], module.kernel_size[1])
    patches = F.unfold(x, kernel, module.dilation, module.padding, module.stride)
    # (B, C * kernel, places), channels slowest, as a weight's own columns
    patches = patches.unflatten(1, (module.groups, -1))
    return patches.permute(1, 2, 0, 3).flatten(2)
