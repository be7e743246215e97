"""Block-sparse convolution and linear layers on a GPU, without im2col: tiles on tensor cores.

A tile is some outputs by some input channels at one tap of the kernel (pattern `tile:64x64`), so in
a channels-last map what it reads is one run of memory for each place, shifted by the tap. A program
computes a block of places for the outputs of one row of tiles: for each tile that is left, places x
channels times channels x outputs, as in a dense implicit GEMM, with the next tiles on their way.
Places are the side of the product that tensor cores want long, so a row of tiles may be as low as
16 outputs. Bias, a tensor to add and bounds (ReLU) come before the result is stored, see
`bench.products.after`. What a program's size is best is searched at the first call.

A linear layer is a 1x1 convolution over its tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.products import after, blocks, search
from bench.products.geometry import LARGEST, geometry
from bench.products.lowering import padding, unsuited

SIZES = sorted(
    ((rows, columns) for rows in (128, 64, 32, 16) for columns in (64, 32, 16)),
    key=lambda size: (-math.prod(size), -size[0]),
)
"""Of tiles that the kernel takes: outputs by input channels at a tap; the largest first."""
PROGRAMS = ((64, 4, 3), (64, 4, 5), (128, 4, 3), (128, 4, 5), (128, 4, 7))
"""What is searched: places, warps, Triton's stages (half of them load tiles, half their places)."""


def refusal(layer: nn.Module) -> str:
    """Why a layer's zeros are not in tiles that the kernel takes; empty if they are."""
    if reason := padding(layer) or unsuited(layer):
        return reason
    if getattr(layer, "groups", 1) != 1:
        return "a grouped convolution is not implemented"
    weight = taps_last(layer)
    if (found := blocks.sides(weight, SIZES)) is None:
        return "its zeros are not in tiles (of 16 to 128 outputs by 16 to 64 inputs at a tap)"
    return geometry(layer).uncoded(weight.shape[2] // found[1])


def taps_last(layer: nn.Module) -> Tensor:
    """The weight as (outputs, taps, inputs)."""
    weight = layer.get_parameter("weight").detach()
    return weight.flatten(2).transpose(1, 2) if weight.dim() > 2 else weight[:, None]


class Tiles(after.Following):
    """A linear layer or 2-D convolution by the tiles that are left; the rest is not stored."""

    tiles: Tensor
    places: Tensor
    ends: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module) -> None:
        """`layer`: one that `refusal` has nothing against."""
        super().__init__()
        weight = taps_last(layer)
        found = blocks.sides(weight, SIZES)
        if found is None:
            raise ValueError("the layer's zeros are not in tiles")
        rows, columns = found
        outputs, taps, inputs = weight.shape
        self.linear, self.inputs = isinstance(layer, nn.Linear), inputs
        self.geometry = g = geometry(layer)
        self.window = [*g.reach, *g.stride, *g.padding]  # each (high, wide)
        kept = blocks.held(weight, rows, columns)
        _, tap, block = (part.to(torch.int32) for part in kept.nonzero(as_tuple=True))
        cut = weight.reshape(outputs // rows, rows, taps, inputs // columns, columns)
        chosen = cut.permute(0, 2, 3, 4, 1)[kept]
        down, right = tap // g.kernel[1] * g.dilation[0], tap % g.kernel[1] * g.dilation[1]
        ends = torch.zeros(len(kept) + 1, dtype=torch.int32, device=weight.device)
        ends[1:] = kept.flatten(1).sum(1).cumsum(0)
        self.register_buffer("tiles", chosen.contiguous())
        self.register_buffer("places", (down << 24) | (right << 16) | block)
        self.register_buffer("ends", ends)
        bias = getattr(layer, "bias", None)
        own = weight.new_zeros(outputs) if bias is None else bias.detach()
        self.register_buffer("bias", own.float())

    @property
    def weight(self) -> Tensor:
        """What is left of it: some nets ask for its dtype."""
        return self.tiles

    def maps(self, input: Tensor) -> Tensor:
        """(N, H, W, C); tokens are places of one map."""
        if self.linear:
            return input.reshape(1, 1, math.prod(input.shape[:-1]), input.shape[-1])
        return input.permute(0, 2, 3, 1)

    def run(self, input: Tensor, add: Tensor | None, low: float, high: float) -> Tensor:
        """As the layer, plus `add` (of that shape), within the bounds."""
        maps, given = self.maps(input), self.shape(input)
        if maps.shape[-1] != self.inputs:
            raise ValueError(f"{self.inputs} channels are expected, not {maps.shape[-1]}")
        own = None
        if add is not None:
            own = add.reshape(1, 1, -1, given[-1]) if self.linear else add.permute(0, 2, 3, 1)
        found = product(
            maps, self.tiles, self.places, self.ends, self.bias, own, self.window, low, high
        )
        return found.view(given) if self.linear else found.permute(0, 3, 1, 2)


@torch.library.custom_op("pruning_benchmark::implicit_gemm", mutates_args=())
def product(
    x: Tensor,
    tiles: Tensor,
    places: Tensor,
    ends: Tensor,
    bias: Tensor,
    add: Tensor | None,
    window: list[int],
    low: float,
    high: float,
) -> Tensor:
    """(N, H, W, C) to (N, Ho, Wo, O); an operator of its own, so that torch.compile leaves it be.

    The other arguments are what `Tiles` holds.
    """
    x = x.contiguous()
    y = x.new_empty(len(x), *_places(x.shape, window), len(bias))
    if x.dtype != tiles.dtype:
        raise TypeError(f"the input is {x.dtype}, the weights are {tiles.dtype}")
    if max(x.numel(), y.numel(), tiles.numel()) >= LARGEST:
        raise ValueError(f"maps of {tuple(x.shape)} are too large for 32-bit offsets")
    if y.numel():
        add = None if add is None else add.contiguous()
        _launch(x, y, add, tiles, places, ends, bias, window, low, high)
    return y


@product.register_fake
def _(x, tiles, places, ends, bias, add, window, low, high):  # type: ignore[no-untyped-def]
    return x.new_empty(len(x), *_places(x.shape, window), len(bias))


def _places(shape: tuple[int, ...], window: list[int]) -> tuple[int, int]:
    """Rows and columns of the result for maps of `shape`, (N, high, wide, C)."""
    high, wide = (
        (size + 2 * pad - reach) // step + 1
        for size, reach, step, pad in zip(
            shape[1:3], window[:2], window[2:4], window[4:], strict=True
        )
    )
    if high < (shape[1] > 0) or wide < (shape[2] > 0):
        raise ValueError(f"maps of {shape[1]} x {shape[2]} are smaller than the kernel")
    return high, wide


def _launch(
    x: Tensor,
    y: Tensor,
    add: Tensor | None,
    tiles: Tensor,
    places: Tensor,
    ends: Tensor,
    bias: Tensor,
    window: list[int],
    low: float,
    high: float,
) -> None:
    from bench.products.implicit_gemm_kernel import convolve

    _, high_y, wide_y, outputs = y.shape
    count, rows = y.numel() // outputs, tiles.shape[2]

    def run(program: tuple[int, int, int]) -> None:
        size, warps, ahead = program
        convolve[(-(-count // size) * (outputs // rows),)](
            x, y, y if add is None else add, bias, tiles, places, ends,
            count, x.shape[1], x.shape[2], high_y, wide_y, x.shape[3], outputs,
            *window[2:], low, high,
            PLACES=size, ROWS=rows, COLUMNS=tiles.shape[1],
            PADDED=any(window[4:]), ADDS=add is not None, num_warps=warps, num_stages=ahead,
        )  # fmt: skip

    key = ("implicit_gemm", x.device, x.dtype, x.shape, y.shape, tiles.shape, *window, add is None)
    with torch.cuda.device_of(x):  # Triton launches on the current one
        run(search.fastest(run, PROGRAMS, key, x.is_cuda))
