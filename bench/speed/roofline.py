"""The least time a layer can take on this machine: the larger of arithmetic and memory traffic.

The ceilings are measured, not looked up: a large matrix product and a large copy, in the same
campaign as the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bench.latency.prepare import DTYPES, Cell
from bench.latency.timing import COOL, HOT, Timer, events, wall, warm
from bench.speed.shapes import LayerShape

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices of the product."""
COPIED = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
"""Bytes read, and as many written: far more than any cache holds."""
CALLS = 7


@dataclass(frozen=True)
class Ceilings:
    """What this machine does at most: operations (a multiply-add is two) and bytes, per second."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Floor:
    """The least time of a layer in ms, and what binds it: `compute` or `memory`."""

    ms: float
    bound: str


def ceilings(cell: Cell) -> Ceilings:
    """Measured now, in the cell's dtype and threads, as `bench.latency.machine.pinned` set them.

    The best of some calls: a ceiling is what the machine can do.
    """
    timer: Timer = events if cell.device == "cuda" else wall
    side, dtype = SIDE[cell.device], DTYPES[cell.dtype]
    a, b = (torch.randn(side, side, device=cell.device).to(dtype) for _ in range(2))
    warmth = HOT if cell.device == "cuda" else COOL
    product = min(warm(lambda: a @ b, timer, warmth), *timer(lambda: a @ b, CALLS))
    source = torch.ones(COPIED[cell.device] // 4, device=cell.device)
    target = torch.empty_like(source)
    copy = min(
        warm(lambda: target.copy_(source), timer, warmth),
        *timer(lambda: target.copy_(source), CALLS),
    )
    return Ceilings(2e3 * side**3 / product, 2e3 * COPIED[cell.device] / copy)


def work(shape: LayerShape, batch: int, density: float = 1.0) -> tuple[float, float]:
    """(multiply-adds of a batch, weights left) of a layer that keeps that share of its weights."""
    taps = math.prod(shape.window[0]) if shape.window else 1
    inner = shape.inputs[-1] if shape.window is None else shape.inputs[0] // shape.groups * taps
    weights = shape.outputs * inner * density
    return weights * places(shape) * batch, weights


def places(shape: LayerShape) -> int:
    """Outputs of a channel for one sample: tokens, or places of the map."""
    if shape.window is None:
        return math.prod(shape.inputs[:-1])
    kernel, stride, padding, dilation = shape.window
    return math.prod(
        (size + 2 * pad - step * (taps - 1) - 1) // jump + 1
        for size, taps, jump, pad, step in zip(
            shape.inputs[1:], kernel, stride, padding, dilation, strict=True
        )
    )


def read(shape: LayerShape) -> int:
    """Inputs of one sample that a layer reads: a stride wider than the kernel leaves some out."""
    if shape.window is None:
        return math.prod(shape.inputs)
    kernel, stride, _, dilation = shape.window
    sides = [
        size if jump <= step * (taps - 1) + 1 else min(size, -(-size // jump) * taps)
        for size, taps, jump, step in zip(shape.inputs[1:], kernel, stride, dilation, strict=True)
    ]
    return shape.inputs[0] * math.prod(sides)


def floor(shape: LayerShape, cell: Cell, density: float, limits: Ceilings) -> Floor:
    """For a batch: every input that is read, weight and output moves once.

    The weights in the smaller of two forms: all of them, or those left with a bit for each place.
    """
    done, left = work(shape, cell.batch, density)
    whole, size = work(shape, 1)[1], DTYPES[cell.dtype].itemsize
    maps = cell.batch * (read(shape) + shape.outputs * places(shape))
    moved = maps * size + min(whole * size, left * size + whole / 8)
    compute, memory = 2 * done / limits.flops, moved / limits.bandwidth
    return Floor(1e3 * max(compute, memory), "compute" if compute > memory else "memory")
