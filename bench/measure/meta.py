"""A model's twin on the meta device: all shapes, no data, and a forward pass without arithmetic."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def twin(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, all tensors on the meta device; `model` stays as it is.

    The data are never copied: the memo of `deepcopy` already holds a meta tensor for each tensor.
    That also keeps tied weights tied and the flat weight lists of recurrent layers in step.
    """
    attributes = (v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor))
    memo: dict[int, object] = {}
    for tensor in chain(model.parameters(), model.buffers(), attributes):
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        trained = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if trained else empty
    return copy.deepcopy(model, memo).eval()


def forward(model: nn.Module, shape: tuple[int, ...], batch: int = 1) -> Tensor:
    """What the twin `model` returns for `batch` samples of `shape`; only shapes are computed."""
    floats = (t.dtype for t in chain(model.parameters(), model.buffers()) if t.is_floating_point())
    dtype = next(floats, torch.float32)
    # fused attention would hide its two products from a counter of operators
    with torch.no_grad(), torch.device("meta"), sdpa_kernel(SDPBackend.MATH):
        output: Tensor = model(torch.empty(batch, *shape, dtype=dtype))
    return output
