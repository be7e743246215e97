"""Convolution and linear layers on a GPU whose inputs are gathered: whole columns, or k of n.

Weights that are left are columns of the layer's matrix, an input channel at a tap, kept by rows of
128, 64, 32 or 16 outputs together (patterns `column`, `k-of-n:16`, `block:16x1`), or by each output
alone. Maps are turned to lie channel by channel with the images innermost and their padding around
them; then the places of an output follow each other in memory, and what a weight reads is as long a
run of memory, at a distance that depends on the weight alone. Outputs that share their inputs are a
product on tensor cores, places times columns times outputs, with the next columns on their way; an
output of its own is one multiply-add for each weight and place on the ordinary cores.

Results lie as the maps do, so layers of this kind that follow each other turn nothing. Loads are
wide where images are a multiple of 16 (or tokens, or places of a 1x1 convolution): small batches
run, slowly. Bias, a tensor to add and bounds (ReLU) come before the result is stored, see
`bench.products.after`. What a program's size is best is searched at the first call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import after, blocks, search
from bench.products.geometry import LARGEST, geometry
from bench.products.lowering import padding, unsuited
from bench.surgery.layers import matrix

ROWS = (128, 64, 32, 16)
"""Outputs that share their inputs, as tensor cores take them."""
MANY, DENSEST = 64, 0.9
"""So many that share are run if they keep up to that, which should still pay (gather_gemm.md, an
estimate); fewer, or an output by itself, up to half."""
SHARED = (
    *((64, 16, 4, 5), (64, 32, 4, 3), (64, 64, 4, 4), (128, 32, 4, 4)),
    *((128, 64, 4, 3), (128, 32, 8, 5), (128, 64, 8, 4)),
)
"""What is searched for them: places, columns, warps, Triton's stages."""
SINGLE = ((256, 1, 1), (512, 1, 2), (512, 32, 2), (1024, 32, 4), (2048, 32, 8))
"""And for outputs by themselves: places, outputs one after another, warps."""
TOGETHER = 8
"""Weights of such an output whose inputs are on their way at once."""


def refusal(layer: nn.Module) -> str:
    """Why a layer cannot or need not be run so; empty if it can and should."""
    if reason := padding(layer) or unsuited(layer, DENSEST):
        return reason
    if together(layer) < MANY and (reason := unsuited(layer)):
        return reason
    g = geometry(layer)
    return g.uncoded(g.channels)


def together(layer: nn.Module) -> int:
    """How many outputs of a layer share their inputs; 1 where fewer than 16 do."""
    g = geometry(layer)
    own = [(rows, 1) for rows in ROWS if g.outputs // g.groups % rows == 0]
    flat = matrix(layer.get_parameter("weight").detach())
    return (blocks.sides(flat[:, None], own, DENSEST) or (1, 1))[0]


class Gathered(after.Following):
    """A linear layer or 2-D convolution by the columns that are left; the rest is not stored."""

    weights: Tensor
    codes: Tensor
    ends: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module) -> None:
        """`layer`: one that `refusal` has nothing against."""
        super().__init__()
        weight = layer.get_parameter("weight").detach()
        self.geometry = g = geometry(layer)
        self.linear, self.rows = isinstance(layer, nn.Linear), together(layer)
        flat = matrix(weight)
        lists = flat.reshape(-1, self.rows, flat.shape[1])
        strip, column = (lists != 0).any(1).nonzero(as_tuple=True)
        values = lists[strip, :, column]
        taps = g.kernel[0] * g.kernel[1]
        channel = strip * self.rows // (g.outputs // g.groups) * (g.channels // g.groups)
        channel = channel + column // taps
        down = column % taps // g.kernel[1] * g.dilation[0]
        right = column % g.kernel[1] * g.dilation[1]
        codes = (down << 24) | (right << 16) | channel
        counts = torch.bincount(strip, minlength=len(lists))
        if self.rows == 1:
            values, codes, counts = whole(values, codes, counts)
        ends = F.pad(counts.cumsum(0), (1, 0))
        beyond = max(columns for _, columns, _, _ in SHARED)
        self.register_buffer("weights", values.contiguous())
        self.register_buffer("codes", F.pad(codes, (0, beyond)).to(torch.int32))
        self.register_buffer("ends", ends.to(torch.int32))
        bias = getattr(layer, "bias", None)
        given = weight.new_zeros(g.outputs) if bias is None else bias.detach()
        self.register_buffer("bias", given.float())

    @property
    def weight(self) -> Tensor:
        """What is left of it: some nets ask for its dtype."""
        return self.weights

    def turned(self, input: Tensor) -> Tensor:
        """(channels, H, W, N), not yet padded; tokens are images of one place."""
        if self.linear:
            return input.reshape(-1, input.shape[-1]).T[:, None, None]
        return input.permute(1, 2, 3, 0)

    def run(self, input: Tensor, add: Tensor | None, low: float, high: float) -> Tensor:
        """As the layer, plus `add` (of that shape), within the bounds."""
        maps, given = self.turned(input), self.shape(input)
        if len(maps) != self.geometry.channels:
            raise ValueError(f"{self.geometry.channels} channels are expected, not {len(maps)}")
        if not self.linear and min(given[2:]) < 1:
            raise ValueError(f"maps of {tuple(input.shape[2:])} are smaller than the kernel")
        if any(self.geometry.padding):
            above, beside = self.geometry.padding
            maps = F.pad(maps, (0, 0, beside, beside, above, above))
        own = None if add is None else self.turned(add)
        window = [*self.geometry.reach, *self.geometry.stride]
        layer = (self.weights, self.codes, self.ends, self.bias)
        found = product(maps, *layer, own, window, low, high)
        return found.flatten(1).T.reshape(given) if self.linear else found.permute(3, 0, 1, 2)


def whole(values: Tensor, codes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each output's weights with zeros at its end, to multiples of `TOGETHER`.

    Zeros read what the output's last weight reads.
    """
    length = counts + -counts % TOGETHER
    last = counts.cumsum(0)
    place = torch.arange(int(length.sum()), device=counts.device)
    output = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), length)
    at = place - (length.cumsum(0) - length)[output]
    inside = at < counts[output]
    source = torch.minimum((last - counts)[output] + at, last[output] - 1)
    return values[source] * inside[:, None], codes[source], length


@torch.library.custom_op("pruning_benchmark::gather_gemm", mutates_args=())
def product(
    x: Tensor,
    weights: Tensor,
    codes: Tensor,
    ends: Tensor,
    bias: Tensor,
    add: Tensor | None,
    window: list[int],
    low: float,
    high: float,
) -> Tensor:
    """(C, H, W, N) to (O, Ho, Wo, N), contiguous; an operator of its own for torch.compile.

    `window`: reach and stride, each (high, wide). The other arguments are what `Gathered` holds.
    """
    x = x.contiguous()
    y = x.new_empty(_sizes(x, bias, window))
    if x.dtype != weights.dtype:
        raise TypeError(f"the input is {x.dtype}, the weights are {weights.dtype}")
    if max(x.numel(), y.numel(), weights.numel()) >= LARGEST:
        raise ValueError(f"maps of {tuple(x.shape)} are too large for 32-bit offsets")
    if y.numel():
        add = None if add is None else add.contiguous()
        _launch(x, y, add, (weights, codes, ends, bias), window, (low, high))
    return y


@product.register_fake
def _(x, weights, codes, ends, bias, add, window, low, high):  # type: ignore[no-untyped-def]
    return x.new_empty(_sizes(x, bias, window))


def _sizes(x: Tensor, bias: Tensor, window: list[int]) -> tuple[int, ...]:
    spread = zip(x.shape[1:3], window[:2], window[2:], strict=True)
    return (len(bias), *((size - far) // step + 1 for size, far, step in spread), x.shape[3])


def _launch(
    x: Tensor,
    y: Tensor,
    add: Tensor | None,
    layer: tuple[Tensor, Tensor, Tensor, Tensor],
    window: list[int],
    bounds: tuple[float, float],
) -> None:
    from bench.products import gather_gemm_kernel as kernel

    weights, codes, ends, bias = layer
    rows, count = weights.shape[1], y[0].numel()
    flat = window == [1, 1, 1, 1]
    # all places of a flat map count as images of one: as aligned as they are together
    images, high, wide = (count, 1, 1) if flat else (x.shape[3], *x.shape[1:3])
    given = (x, y, y if add is None else add, bias, weights, codes, ends, count, images)
    sizes = (high, wide, y.shape[2], *window[2:], len(y), *bounds)

    def run(program: tuple[int, ...]) -> None:
        how: dict[str, Any] = {"PLACES": program[0], "FLAT": flat, "ADDS": add is not None}
        strips = len(y) // rows if rows > 1 else -(-len(y) // program[1])
        grid = (-(-count // program[0]) * strips,)
        if rows > 1:
            how |= {"ROWS": rows, "COLUMNS": program[1]}
            kernel.shared[grid](*given, *sizes, **how, num_warps=program[2], num_stages=program[3])
        else:
            how |= {"OUTPUTS": program[1], "TOGETHER": TOGETHER}
            kernel.single[grid](*given, *sizes, **how, num_warps=program[2])

    programs: tuple[tuple[int, ...], ...] = SHARED if rows > 1 else SINGLE
    key = ("gather_gemm", x.device, x.dtype, x.shape, y.shape, weights.shape, *window, add is None)
    with torch.cuda.device_of(x):  # Triton launches on the current one
        run(search.fastest(run, programs, key, x.is_cuda))
