"""Sparse convolution and linear layers on a CPU without im2col: what pruned nets need there.

An output map is a sum of shifted input maps, one for each weight that is left, whatever the
weights' places. So the input is packed once, with its padding, and a weight becomes one number: the
distance in memory from an output's place to the input's (1x1 convolutions often need no packing).
Places are taken 64 at a time, as four vectors of sums that stay in registers while an output's
weights pass; every load is of whole vectors, no index is looked up by place. A strided convolution
is packed as its phases (every second row and column), in each of which it has no stride. Rows keep
their padding as places that are computed and not stored. Maps are packed in strips of rows that fit
the second cache, each by the thread that computes it. Where four outputs that follow each other
keep the same inputs (patterns `k-of-n:16`, `block:16x1`, `column`), one load serves them all.

A linear layer is a 1x1 convolution over its tokens; for fewer than four tokens a gather.

Bounds (ReLU, ReLU6) and a tensor to add are applied before a sum is stored, see
`bench.products.after`. The code is `direct.cpp`; `bench.products.compiled` compiles it. fp32 only.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import after, blocks, compiled
from bench.products.geometry import geometry
from bench.surgery.layers import matrix

LANES = 16
"""Floats of a vector, as in direct.cpp."""
STRIP = 2**17
"""Floats of a strip, packed: half a megabyte."""
USES = 10
"""Entries that read a channel, in the mean, above which it pays to pack it."""
TILE = 4 * LANES
"""Places that are taken at once, as in direct.cpp."""
FEW = 4
"""Tokens of a linear layer below which it gathers."""


class Layer(ctypes.Structure):
    """What direct.cpp knows of a layer on inputs of one size."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                *("channels", "height", "width", "outputs", "out_height", "out_width"),
                *("stride_h", "stride_w", "pad_h", "pad_w"),
                *("packed", "planes", "used", "strip", "halo", "pitch", "plane", "step"),
                "shared",
            )
        ),
        *((name, ctypes.c_void_p) for name in ("phases", "channel", "ends", "entries", "bias")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    )


class Direct(after.Following):
    """A linear layer or 2-D convolution by the weights that are left; the rest is not stored.

    A convolution adds something before it stores its result; a linear layer leaves that to torch.
    """

    def __init__(self, layer: nn.Module) -> None:
        """`layer`: supported by `bench.kernels.direct`."""
        super().__init__()
        weight = layer.get_parameter("weight").detach().float()
        self.linear = isinstance(layer, nn.Linear)
        self.adds = not self.linear
        self.geometry = geometry(layer)
        g = self.geometry
        flat = matrix(weight)
        self.shared = sharing(flat, g.outputs // g.groups)
        lists = flat.view(-1, self.shared, flat.shape[1])
        rows, columns = (part.numpy() for part in (lists != 0).any(1).nonzero(as_tuple=True))
        self.values = lists.numpy()[rows, :, columns]
        """(entries, outputs that share them)"""
        self.rows = rows.astype(np.int32)
        taps = g.kernel[0] * g.kernel[1]
        first = rows * self.shared // (g.outputs // g.groups) * (g.channels // g.groups)
        self.inputs = (first + columns // taps).astype(np.int32)
        self.taps = np.stack(np.divmod(columns % taps, g.kernel[1])).astype(np.int16)
        bias: Any = getattr(layer, "bias", None)
        self.bias = None if bias is None else bias.detach().float().numpy().copy()
        self.plans: dict[tuple[int, int], tuple[Layer, Any]] = {}

    def run(self, input: Tensor, add: Tensor | None, low: float, high: float) -> Tensor:
        """As the layer, plus `add`, of that shape, within the bounds."""
        axis = -1 if self.linear else 1
        wanted = (torch.float32, "cpu", self.geometry.channels)
        given = (input.dtype, input.device.type, input.shape[axis] if input.dim() else 0)
        if given != wanted or not (self.linear or input.dim() == 4):
            raise TypeError(f"{wanted} are the dtype, device and channels here, not {given}")
        if not self.linear:
            return self.convolved(input, add, low, high)
        if add is not None:
            return (self.run(input, None, -math.inf, math.inf) + add).clamp(low, high)
        tokens = input.reshape(-1, input.shape[-1])
        if len(tokens) < FEW:
            found = self.gathered(tokens.contiguous(), low, high)
        else:
            # as a map whose rows fill a tile, so that it can be cut
            wide = min(TILE, len(tokens))
            maps = F.pad(tokens, (0, 0, 0, -len(tokens) % wide)).T.contiguous()
            found = self.convolved(maps.view(1, len(maps), -1, wide), None, low, high)
            found = found.view(len(found[0]), -1)[:, : len(tokens)].T
        return found.reshape(self.shape(input))

    def convolved(self, x: Tensor, add: Tensor | None, low: float, high: float) -> Tensor:
        """(N, C, H, W) to (N, O, Ho, Wo)."""
        height, width = x.shape[2:]
        places = self.geometry.places(height, width)
        if min(places) < 1:
            raise ValueError(f"maps of {height} x {width} are smaller than the kernel")
        y = x.new_empty(len(x), self.geometry.outputs, *places)
        if not y.numel():
            return y
        if (height, width) not in self.plans:
            self.plans[height, width] = self.plan(height, width)
        layer = self.plans[height, width][0]
        layer.low, layer.high = low, high
        x, own = x.contiguous(), None if add is None else add.contiguous()
        if functions().convolve(
            ctypes.byref(layer),
            *(x.data_ptr(), y.data_ptr(), None if own is None else own.data_ptr()),
            *(len(x), torch.get_num_threads()),
        ):
            raise MemoryError("no memory for the packed input")
        return y

    def gathered(self, x: Tensor, low: float, high: float) -> Tensor:
        """(tokens, inputs) to (tokens, outputs)."""
        if (0, 0) not in self.plans:
            self.plans[0, 0] = self.layer(self.inputs)
        y = x.new_empty(len(x), self.geometry.outputs)
        threads = torch.get_num_threads()
        layer = self.plans[0, 0][0]
        layer.low, layer.high = low, high
        functions().gather(ctypes.byref(layer), x.data_ptr(), y.data_ptr(), len(x), threads)
        return y

    def plan(self, height: int, width: int) -> tuple[Layer, Any]:
        """The offsets of all weights for inputs of this size, and how they are packed."""
        g = self.geometry
        high, wide = g.places(height, width)
        ahead = self.taps * np.array(g.dilation)[:, None]
        shift, phase = np.divmod(ahead, np.array(g.stride)[:, None])
        phases, plane = np.unique(phase.T, axis=0, return_inverse=True)
        used, channel = np.unique(self.inputs, return_inverse=True)
        # a 1x1 convolution may read its input as it is, which is slow where channels do not begin
        # with a whole vector, and packing is where few weights read each of them
        simple = g.kernel == g.stride == (1, 1) and g.padding == (0, 0)
        crooked = height * width % LANES > 0 and len(self.values) > USES * len(used)
        packed = not simple or crooked
        reach, across = (
            step * (taps - 1) // jump
            for step, taps, jump in zip(g.dilation, g.kernel, g.stride, strict=True)
        )
        pitch = wide + across
        deep = max(1, len(used) * len(phases) * pitch)
        strip = min(high, max(4, STRIP // deep - reach))

        def padded(rows: int) -> int:
            # the last vector of the last place may reach past the rows
            return -(-(rows * pitch + across + LANES) // LANES) * LANES

        size = padded(strip + reach)
        step = size * len(phases)
        step += LANES * (step // LANES % 2 == 0)  # else all channels would share cache sets
        if not packed:
            strip, step, channel = high, height * width, self.inputs
        if len(used) * step >= 2**31:
            raise ValueError(f"maps of {height} x {width} are too large for 32-bit offsets")
        offsets = (
            channel.astype(np.int64) * step + plane.reshape(-1) * size + shift[0] * pitch + shift[1]
        )
        return self.layer(
            offsets,
            height=height, width=width, out_height=high, out_width=wide,
            stride_h=g.stride[0], stride_w=g.stride[1], pad_h=g.padding[0], pad_w=g.padding[1],
            packed=packed, planes=len(phases), used=len(used), strip=strip, halo=reach,
            pitch=pitch, plane=size, step=step,
            phases=np.ascontiguousarray(phases, np.int32), channel=used.astype(np.int32),
        )  # fmt: skip

    def layer(self, offsets: np.ndarray, **known: Any) -> tuple[Layer, Any]:
        """The structure for direct.cpp, and the arrays that have to live as long."""
        g = self.geometry
        order = np.lexsort((offsets, self.rows))  # by output, then upwards in memory
        entries = np.empty((len(order), 1 + self.shared), np.float32)
        entries[:, :1].view(np.int32)[:, 0] = offsets[order]
        entries[:, 1:] = self.values[order]
        lists = g.outputs // self.shared
        ends = np.zeros(lists + 1, np.int32)
        ends[1:] = np.bincount(self.rows, minlength=lists).cumsum()
        known |= {"entries": entries, "ends": ends, "bias": self.bias}
        held = {name: value for name, value in known.items() if isinstance(value, np.ndarray)}
        pointers = {name: value.ctypes.data for name, value in held.items()}
        made = Layer(
            **{**known, **pointers}, channels=g.channels, outputs=g.outputs, shared=self.shared,
        )  # fmt: skip
        return made, held


def sharing(flat: Tensor, outputs: int) -> int:
    """How many outputs share a list of inputs: as many as direct.cpp can serve, or one.

    `flat`: the weight's matrix; `outputs`: of a group, which no list may leave.
    """
    most = int(functions().sharing())
    if outputs % most:
        return 1
    held = most * int(blocks.held(flat[:, None], most, 1).sum())
    return most if held <= blocks.WASTE * int(flat.count_nonzero()) else 1


@cache
def functions() -> ctypes.CDLL:
    """What direct.cpp exports; raises `CompilerError`."""
    found = compiled.library(Path(__file__).with_suffix(".cpp"))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    found.convolve.argtypes = [pointer, pointer, pointer, pointer, number, number]
    found.gather.argtypes = [pointer, pointer, pointer, number, number]
    found.gather.restype = None
    found.sharing.restype = number
    return found
