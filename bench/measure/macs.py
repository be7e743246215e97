"""Multiply-adds of a net for one sample, per weight: the only counter of the benchmark.

The net runs once on the meta device while every matrix product and convolution is intercepted. The
products of a recurrent layer are seen step by step; attention runs unfused, so that its two
products are seen too (torch's own counter misses them in eval mode). A product belongs to the
parameter whose memory one of its operands shares. Additions of biases, normalisation, activations,
pooling and element-wise products are not counted, padding counts as data: the convention of the
literature.

Every element of a weight takes part in the same number of multiply-adds, so those of a sparse layer
are its count times its density.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.measure import meta
from bench.surgery.layers import prunable

aten = torch.ops.aten

PRODUCTS = {  # operator: positions of its two factors
    aten.mm: (0, 1),
    aten.addmm: (1, 2),
    aten.bmm: (0, 1),
    aten.baddbmm: (1, 2),
    aten.addbmm: (1, 2),
    aten.mv: (0, 1),
    aten.addmv: (1, 2),
    aten.dot: (0, 1),
}
REFUSED = {  # products inside one operator that we have no rule for; never skipped in silence
    *flop_registry,
    aten._native_multi_head_attention,
    aten._transformer_encoder_layer_fwd,
    aten._trilinear,
    aten._cdist_forward,
    aten.mkldnn_rnn_layer,
    aten._cudnn_rnn,
    aten.miopen_rnn,
} - {*PRODUCTS, aten.convolution}


def macs(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds of `model` for one sample of `shape` (no batch axis); they sum to the net's.

    Keys are dotted parameter names: every prunable weight (0 when the forward pass does not use it)
    and any other parameter that enters a product (`attn.in_proj_weight`). A product of two
    activations is kept under `<module>.attention`. The model, its mode and the random state stay
    untouched.

    Raises:
        ValueError: the net cannot run on the meta device, or an operator hides its products.
    """
    twin = meta.twin(model)
    owners: dict[int, str] = {}
    for name, parameter in twin.named_parameters(remove_duplicate=False):
        owners.setdefault(_storage(parameter), name)
    counter = _Counter(dict.fromkeys(prunable(model), 0), owners)
    for name, module in twin.named_modules():
        module.register_forward_pre_hook(partial(_enter, counter.running, name))
        module.register_forward_hook(partial(_leave, counter.running), always_call=True)
    try:
        with counter:
            meta.forward(twin, shape)
    except (RuntimeError, NotImplementedError, TypeError, IndexError, AssertionError) as error:
        name = type(model).__name__
        raise ValueError(
            f"cannot count the multiply-adds of {name} for an input of {tuple(shape)}: {error}"
        ) from error
    return counter.counts


class _Counter(TorchDispatchMode):
    """Adds the multiply-adds of each operator that runs to `counts`."""

    def __init__(self, counts: dict[str, int], owners: dict[int, str]) -> None:
        super().__init__()
        self.counts = counts
        self.owners = owners  # address of a parameter's memory -> its name
        self.running = [""]  # names of the modules being called, innermost last

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[operator])
            columns = right.shape[-1] if right.ndim > 1 else 1
            self._add(left.numel() * columns, left, right)
        elif operator is aten.convolution:
            data, weight, transposed = args[0], args[1], args[6]
            positions = (data if transposed else output).shape
            self._add(weight.numel() * positions[0] * prod(positions[2:]), data, weight)
        elif operator in REFUSED:
            raise RuntimeError(f"{operator} hides its products; compute them with matmul or conv")
        return output

    def _add(self, count: int, *factors: Tensor) -> None:
        module = self.running[-1]
        prefix = f"{module}." if module else ""
        owner = next((self.owners[s] for f in factors if (s := _storage(f)) in self.owners), None)
        if owner is None and f"{prefix}weight" in self.counts:
            # a weight that its layer transforms first, as standardised convolutions do
            owner = f"{prefix}weight"
        key = owner or f"{prefix}attention"
        self.counts[key] = self.counts.get(key, 0) + count


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _enter(running: list[str], name: str, *_: object) -> None:
    running.append(name)


def _leave(running: list[str], *_: object) -> None:
    running.pop()
