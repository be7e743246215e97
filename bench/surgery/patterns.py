"""The vocabulary of zero patterns, and how scores of weights become masks of a pattern.

| written | what is kept or removed as a whole | layers |
| --- | --- | --- |
| `unstructured` | one weight | all |
| `k-of-n` | one weight, exactly k of the n inputs of every output | all |
| `k-of-n:16` | the weights of 16 outputs at one input, exactly k of the n inputs of each 16 | all |
| `2:4`, `N:M` | exactly N in every M consecutive weights along the input axis | all |
| `*:4`, `*:M` | the same, with each layer's own N | all |
| `block:16x16` | a tile of the matrix (out, in * kernel) | all |
| `tile:32x64` | 32 outputs by 64 input channels at one tap of the kernel | all |
| `column` | a column of that matrix: one input tap of all outputs | all |
| `kernel` | the 2-D kernel of one (output, input) pair | convolutions; a weight elsewhere |
| `channel` | an output channel or hidden unit with all that reads it; removed | see `channels` |

The matrix is the stored weight, first axis against all others, and a column of it is one input tap
of all outputs (of 16, with `k-of-n:16`) only where that is (out, in, *kernel). Of a grouped
convolution (out, in / groups, *kernel) it is one tap of the input at the same place in every group;
of a depthwise one, one place in the kernels of all channels; of a transposed one (in, out / groups,
*kernel), what all inputs give to one output at one place in the kernel; of a recurrent layer, one
input of all gates.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

Kind = Literal["unstructured", "k-of-n", "n:m", "block", "column", "kernel", "channel"]


class PatternError(ValueError):
    """A pattern that does not exist, or that a layer cannot hold."""


@dataclass(frozen=True)
class Pattern:
    """A zero pattern; `n` is None where each layer chooses its own.

    Blocks `at_taps` take their columns from one tap of the kernel; of k of n, `rows` outputs share
    their inputs.
    """

    kind: Kind
    n: int | None = None
    m: int = 1
    rows: int = 1
    columns: int = 1
    at_taps: bool = False

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern written as `text` (see the module's table)."""
        if text in ("unstructured", "k-of-n", "column", "kernel", "channel"):
            return cls(cast(Kind, text))
        if found := re.fullmatch(r"(\d+|\*):(\d+)", text):
            n, m = None if found[1] == "*" else int(found[1]), int(found[2])
            if m < 2 or (n is not None and not 1 <= n <= m):
                raise PatternError(f"pattern {text!r}: N:M needs 1 <= N <= M and M >= 2")
            return cls("n:m", n=n, m=m)
        if found := re.fullmatch(r"k-of-n:(\d+)", text):
            if int(found[1]) < 2:
                raise PatternError(f"pattern {text!r}: at least two outputs share their inputs")
            return cls("k-of-n", rows=int(found[1]))
        if found := re.fullmatch(r"(block|tile):(\d+)x(\d+)", text):
            rows, columns = int(found[2]), int(found[3])
            if rows * columns == 0:
                raise PatternError(f"pattern {text!r}: a block has at least one row and one column")
            return cls("block", rows=rows, columns=columns, at_taps=found[1] == "tile")
        raise PatternError(
            f"no pattern {text!r}; there are: unstructured, k-of-n, k-of-n:R, N:M (2:4), *:M, "
            "block:RxC, tile:RxC, column, kernel, channel"
        )

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Why a weight of this shape cannot hold whole groups everywhere; None if it can."""
        columns = math.prod(shape[1:])
        if self.kind == "n:m" and columns % self.m:
            return f"its {columns} inputs per output are no multiple of {self.m}"
        if self.kind == "k-of-n" and shape[0] % self.rows:
            return f"its {shape[0]} outputs are no multiple of {self.rows}"
        if self.at_taps:
            columns = shape[1]
        if self.kind == "block" and (shape[0] % self.rows or columns % self.columns):
            what = f"matrix {'at a tap ' if self.at_taps else ''}{shape[0]} x {columns}"
            return f"its {what} is no multiple of {self.rows} x {self.columns}"
        return None


def _valid(text: str) -> str:
    Pattern.parse(text)
    return text


PatternName = Annotated[
    str,
    AfterValidator(_valid),
    Field(
        description="zero pattern: unstructured, k-of-n, k-of-n:16, 2:4, *:4, block:16x16, "
        "tile:32x64, column, kernel, channel"
    ),
]


def unit_scores(scores: Tensor, pattern: Pattern) -> Tensor:
    """The mean score of every removable unit of one layer, flat.

    `scores` has the weight's shape.
    """
    if pattern.kind == "kernel":
        return scores.flatten(2).mean(2).flatten() if scores.dim() > 2 else scores.flatten()
    if pattern.kind == "column":
        return scores.flatten(1).mean(0)
    if pattern.kind == "block":
        if pattern.at_taps:
            scores = scores.movedim(1, -1)
        rows, columns = scores.shape[0], scores[0].numel()
        cut = (rows // pattern.rows, pattern.rows, columns // pattern.columns, pattern.columns)
        return scores.reshape(cut).mean((1, 3)).flatten()
    if pattern.kind == "k-of-n":
        return scores.reshape(-1, pattern.rows, scores[0].numel()).mean(1).flatten()
    return scores.flatten()


def expand(units: Tensor, shape: tuple[int, ...], pattern: Pattern) -> Tensor:
    """The weight mask (bool, of `shape`) that the unit mask `units` (flat, bool) stands for."""
    columns = math.prod(shape[1:])
    if pattern.kind == "kernel" and len(shape) > 2:
        return units.view(shape[0], shape[1], *[1] * (len(shape) - 2)).expand(shape).clone()
    if pattern.kind == "column":
        return units.view(1, columns).expand(shape[0], columns).reshape(shape).clone()
    if pattern.kind == "block":
        grid = units.view(shape[0] // pattern.rows, columns // pattern.columns)
        whole = grid.repeat_interleave(pattern.rows, 0).repeat_interleave(pattern.columns, 1)
        if pattern.at_taps:
            return whole.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
        return whole.view(shape)
    if pattern.kind == "k-of-n":
        return units.view(-1, columns).repeat_interleave(pattern.rows, 0).view(shape)
    return units.view(shape)


def keep_top(scores: Tensor, count: int) -> Tensor:
    """Bool mask of the `count` largest entries of `scores` (any shape).

    Of equal scores the first is kept.
    """
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[:count]] = True
    return mask.view(scores.shape)


def keep_n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """Bool mask that keeps the `n` largest of every `m` consecutive scores.

    Consecutive along the flattened input axis; a remainder shorter than `m` at the end of a row
    stays dense.
    """
    matrix = scores.flatten(1)
    whole = matrix.shape[1] // m * m
    groups = matrix[:, :whole].reshape(matrix.shape[0], -1, m)
    order = torch.argsort(groups, dim=2, descending=True, stable=True)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, order[..., :n], True)
    rest = torch.ones_like(matrix[:, whole:], dtype=torch.bool)
    return torch.cat([kept.flatten(1), rest], 1).view(scores.shape)


def keep_k_of_row(scores: Tensor, k: int) -> Tensor:
    """Bool mask that keeps the `k` largest scores of every output (row of the flattened matrix)."""
    matrix = scores.flatten(1)
    order = torch.argsort(matrix, dim=1, descending=True, stable=True)
    return (
        torch.zeros_like(matrix, dtype=torch.bool)
        .scatter_(1, order[:, :k], True)
        .view(scores.shape)
    )
