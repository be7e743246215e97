"""Which of some programs of a kernel is the fastest on this GPU: tried at the first call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from bench.latency.timing import events

CALLS, TRIALS = 10, 5
"""Of a program: calls in one graph, since launching one can take longer than it, and replays."""
Program = TypeVar("Program", bound=tuple[int, ...])
_best: dict[tuple[Any, ...], Any] = {}


def fastest(
    run: Callable[[Program], None], programs: Sequence[Program], key: tuple[Any, ...], cuda: bool
) -> Program:
    """One of `programs`, searched once in a process for each `key`.

    `key`: kernel, device, dtype, shapes, whatever decides. Not on a GPU (Triton's interpreter) it
    is the first. Raises `RuntimeError` if the GPU has the memory for none.
    """
    if not cuda:
        return programs[0]
    if key not in _best:
        times = {program: _time(run, program) for program in programs}
        best = min(times, key=lambda program: times[program])
        if times[best] == math.inf:
            raise RuntimeError(f"no program of {key[0]} fits this GPU")
        _best[key] = best
    return _best[key]


def _time(run: Callable[[Program], None], program: Program) -> float:
    """Shortest of some calls, in ms; infinite where the GPU lacks the memory for such a program."""
    from triton.runtime.errors import OutOfResources

    try:
        run(program)
    except OutOfResources:
        return math.inf
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            run(program)
    return min(events(graph.replay, 1 + TRIALS)[1:])
