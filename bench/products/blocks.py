"""Weights whose zeros come in square blocks, as torch's BSR kernels take them: what paths share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.products import pointwise
from bench.products.lowering import DENSEST
from bench.spec import slug

SIDES = (64, 32, 16)
"""Of the blocks that torch's Triton kernel takes, largest first."""
WASTE = 1.1
"""Most weights that blocks may hold, over those that are not zero."""
TABLES = Path(__file__).parents[1] / "kernels" / "tuned"
"""`<device>.json`: `tuning_key` -> parameters of the kernel, as found on that device."""
Parameters = Mapping[str, Any]


def side_of(weight: Tensor) -> int | None:
    """The largest block side in which `weight` (outputs, inputs) is sparse; none if in no one."""
    found = sides(weight[:, None], [(side, side) for side in SIDES])
    return found[0] if found else None


def sides(
    weight: Tensor, sizes: Iterable[tuple[int, int]], densest: float = DENSEST
) -> tuple[int, int] | None:
    """The first of `sizes` in whose blocks `weight` (outputs, taps, inputs) is sparse, if any."""
    left = int(weight.count_nonzero())
    for rows, columns in sizes:
        if weight.shape[0] % rows or weight.shape[2] % columns:
            continue
        kept = int(held(weight, rows, columns).sum()) * rows * columns
        if kept <= densest * weight.numel() and kept <= WASTE * left:
            return rows, columns
    return None


def held(weight: Tensor, rows: int, columns: int) -> Tensor:
    """Which blocks have a weight that is not zero: (rows of blocks, taps, columns of blocks)."""
    outputs, taps, inputs = weight.shape
    cut = weight.reshape(outputs // rows, rows, taps, inputs // columns, columns)
    return (cut != 0).any(4).any(1)


def refusal(layer: nn.Module) -> str:
    """Why a layer's zeros are not in blocks that the kernels take; empty if they are."""
    if reason := pointwise.refusal(layer):
        return reason
    if side_of(pointwise.weights(layer)) is None:
        sides = ", ".join(map(str, SIDES))
        return f"its zeros are not in square blocks (of {sides}) that divide the weight"
    return ""


class Blocks(nn.Module):
    """Tokens (P, K) to (P, outputs) by a BSR weight.

    The result lies channel by channel, as torch's kernels write it; what follows pays for that.
    On a GPU tokens are padded to whole blocks, which torch's kernel asks for without saying so, and
    `parameters_of` may give the kernel's parameters for (this product, tokens).
    """

    def __init__(
        self,
        layer: nn.Module,
        parameters_of: Callable[[Blocks, int], Parameters] | None = None,
    ) -> None:
        super().__init__()
        weight, self.parameters_of = pointwise.weights(layer), parameters_of
        side = side_of(weight)
        if side is None:
            raise ValueError("the layer's zeros are not in blocks")
        self.side = side
        self.density = float(held(weight[:, None], side, side).float().mean())
        self.matrix = weight.to_sparse_bsr((self.side, self.side))
        bias = getattr(layer, "bias", None)
        self.bias = weight.new_zeros(len(weight), 1) if bias is None else bias.detach()[:, None]

    def forward(self, tokens: Tensor) -> Tensor:
        """One product."""
        if not tokens.is_cuda:
            return torch.addmm(self.bias, self.matrix, tokens.T).T
        from torch.sparse._triton_ops import bsr_dense_addmm

        columns = pointwise.padded(tokens, SIDES[0]).T
        shown = self.bias.expand(-1, columns.shape[1])
        meta = dict(self.parameters_of(self, columns.shape[1])) if self.parameters_of else None
        return bsr_dense_addmm(shown, self.matrix, columns, meta=meta).T[: len(tokens)]


def tuning_key(product: Blocks, tokens: int) -> str:
    """Under which a device's table keeps the parameters; density in twentieths."""
    high, wide = product.matrix.shape
    return f"{high} {wide} {tokens} {product.side} {round(20 * product.density) / 20:g}"


@cache
def table(device: str) -> dict[str, Parameters]:
    """The tuned parameters kept for a device, by `tuning_key`; empty for an unknown one."""
    path = TABLES / f"{slug(device)}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def tune(product: Blocks, tokens: Tensor) -> Parameters:
    """The fastest parameters that torch's own search finds; minutes, on a GPU."""
    from torch.sparse._triton_ops_meta import tune_bsr_dense_addmm

    columns = tokens.T
    shown = product.bias.expand(-1, columns.shape[1])
    return tune_bsr_dense_addmm(shown, product.matrix, columns, store=False)
