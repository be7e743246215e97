"""A net made ready to be timed: folded, converted by its path, in a dtype, a layout and a mode."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bench import rng
from bench.kernels import Kernel
from bench.latency.fold import fold

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""How numbers are stored; for tf32 `machine.pinned` lets products round them."""
COMPILE, COMPILE_DEFAULT = "compile", "compile-default"
COPIES, SHORT_MS = 20, 0.02
"""A replay shorter than 20 us is timed as a graph of 20 copies."""


class Cell(NamedTuple):
    """One condition of measurement."""

    device: str
    dtype: str
    batch: int
    threads: int


class Variant(NamedTuple):
    """How a path is run; the fastest legal one counts, for the dense net and the pruned alike."""

    mode: str
    layout: str


@dataclass
class Prepared:
    """A net with its input, callable without arguments; one call does the work `copies` times."""

    path: str
    variant: Variant
    digest: str
    call: Callable[[], object]
    output: Callable[[], Tensor]
    copies: int = 1
    note: str = ""
    first_ms: float = 0.0
    """From the folded net to the end of the first call: conversion, search, compilation."""
    x: Tensor | None = None
    """The input that it reads in every call; other numbers may be copied into it."""
    held: object = None
    """What has to stay in memory: a replayed graph knows addresses only."""

    def __call__(self) -> object:
        """Run the net; the result is left in place."""
        return self.call()

    def __str__(self) -> str:
        """As in the table's column `against`."""
        return way(self.path, *self.variant)


def way(path: str, mode: str, layout: str) -> str:
    """How a net is run, in words: `dense eager/nhwc`."""
    return f"{path} {mode}/{layout}"


def inputs(shape: tuple[int, ...], cell: Cell) -> Tensor:
    """Standard normal (batch, *shape), fp32, on the device; zeros would run faster than data."""
    drawn = torch.randn(cell.batch, *shape, generator=rng.generator("latency", cell.batch))
    return drawn.to(cell.device)


def variants(
    kernel: Kernel, model: nn.Module, cell: Cell, compiled: bool | Literal["default"]
) -> list[Variant]:
    """Every legal way to run `model`: modes x layouts; layouts matter only to 2-D convolutions.

    On a GPU the compiler chooses the layout between layers itself: only the last one is given it.
    """
    cuda = cell.device == "cuda"
    compiling = {False: (), True: (COMPILE,), "default": (COMPILE_DEFAULT,)}[compiled]
    images = any(isinstance(module, nn.Conv2d) for module in model.modules())
    layouts = kernel.layouts if images else kernel.layouts[:1]
    return [
        Variant(mode, layout)
        for mode in ("eager", *["graph"] * cuda, *compiling)
        if (COMPILE if mode in compiling else mode) in kernel.modes
        for layout in (layouts[-1:] if cuda and mode in compiling else layouts)
    ]


def prepare(
    model: nn.Module, kernel: Kernel, cell: Cell, variant: Variant, x: Tensor, digest: str = ""
) -> Prepared:
    """`model` on its path, ready to be timed; raises what torch raises where it cannot run.

    Mode `eager` is a plain call. On CUDA, `graph` replays a captured plain call, and `compile`
    replays the captured compiled net: both sides read one static input, so no copy is in any time.
    On the CPU, `compile` calls the compiled net. `compile-default` is the same without the
    compiler's search for fast kernels. Whatever a first call does besides the work happens here
    and never inside a timing.
    """
    net, note = fold(copy.deepcopy(model).eval())
    memory = torch.channels_last if variant.layout == "nhwc" else torch.contiguous_format
    net = net.to(device=cell.device, dtype=DTYPES[cell.dtype])
    x = x.to(dtype=DTYPES[cell.dtype], copy=True)  # the gate writes into it
    if variant.layout == "nhwc":
        net = net.to(memory_format=memory)
        x = x.to(memory_format=memory) if x.dim() == 4 else x
    start = time.perf_counter()
    net = kernel.convert(net)
    run: Callable[[], Tensor] = lambda: net(x)  # noqa: E731 (rebound below)
    if variant.mode in (COMPILE, COMPILE_DEFAULT):
        # Nets of one class share code objects, and dynamo gives up after a few specialisations of
        # one.
        torch.compiler.reset()
        search = cell.device == "cuda" and variant.mode == COMPILE
        tune = "max-autotune-no-cudagraphs" if search else "default"
        net(x)  # searches that paths make at a first call are not for the compiler to trace
        compiled = torch.compile(net, mode=tune, dynamic=False)
        run = lambda: compiled(x)  # noqa: E731
    run()
    if cell.device == "cuda":
        torch.cuda.synchronize()
    first = 1e3 * (time.perf_counter() - start)
    eager = Prepared(kernel.name, variant, digest, run, run, note=note, first_ms=first, x=x)
    return replayed(run, eager) if cell.device == "cuda" and variant.mode != "eager" else eager


def replayed(run: Callable[[], Tensor], eager: Prepared) -> Prepared:
    """`run` as a CUDA graph; very short ones as a graph of several copies."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph, out = capture(run, 1)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(10):
        graph.replay()
    start.record()
    for _ in range(10):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    copies = COPIES if start.elapsed_time(end) / 10 < SHORT_MS else 1
    if copies > 1:
        graph, out = capture(run, copies)

    def output() -> Tensor:
        # Poisoned first: a graph that writes nothing must not pass with what was there before.
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        return out

    return replace(eager, call=graph.replay, output=output, copies=copies, held=run)


def capture(run: Callable[[], Tensor], copies: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph of `copies` calls and the tensor that the last of them writes."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(copies):
            out = run()
    return graph, out


def why(error: Exception) -> str:
    """An exception as one short line without any path."""
    lines = str(error).strip().splitlines() or [""]
    line = re.sub(r"(?<![\w.])(?:[A-Za-z]:)?(?:/[\w.+-]+){2,}", "<path>", lines[0])
    return f"{type(error).__name__}: {line[:200]}"
