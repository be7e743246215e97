"""The time of each layer inside a net that runs, and the operator or kernel that took it.

On a CPU by the wall clock, on a GPU the sum of its kernels' times as the profiler sees them: what
lies between kernels, launches above all, is in no layer's time and in the whole net's.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from bench.kernels import Kernel
from bench.latency.fold import fold
from bench.latency.prepare import DTYPES, capture
from bench.latency.timing import events

PASSES, FIRST = 9, 2
"""Forward passes that count, after the first ones that do not."""
WHOLE = ""


def ready(
    model: nn.Module, path: Kernel | None, dtype: str, layout: str, device: str = "cpu"
) -> nn.Module:
    """A copy of `model` as a measurement runs it eagerly: folded, converted (no path: dense)."""
    net, _ = fold(copy.deepcopy(model).eval())
    net = net.to(device=device, dtype=DTYPES[dtype])
    net = net.to(memory_format=torch.channels_last) if layout == "nhwc" else net
    return path.convert(net) if path else net


def clock(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, float]:
    """Median ms of a forward pass of `x` in each named module, all its calls together.

    And, under `WHOLE`, in the whole net. On a GPU means, and the whole net as a replayed graph.
    """
    if x.is_cuda:
        return gpu_clock(net, names, x)
    passes: list[dict[str, float]] = []

    def start(name: str, *_: Any) -> None:
        passes[-1][name] -= time.perf_counter()

    def stop(name: str, *_: Any) -> None:
        passes[-1][name] += time.perf_counter()

    with hooked(net, names, start, stop):
        for _ in range(FIRST + PASSES):
            passes.append(defaultdict(float))
            start(WHOLE)
            net(x)
            stop(WHOLE)
    kept = passes[FIRST:]
    return {n: 1e3 * float(np.median([one[n] for one in kept])) for n in (*names, WHOLE)}


def gpu_clock(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, float]:
    """As `clock`, on a GPU."""
    for _ in range(FIRST):
        net(x)
    seen = dict.fromkeys(names, 0.0)
    for name, event in profiled(net, names, x, PASSES):
        seen[name] += sum(kernel.duration for kernel in event.kernels) / 1e3 / PASSES
    graph, _ = capture(lambda: net(x), 1)
    return seen | {WHOLE: float(np.median(events(graph.replay, FIRST + PASSES)[FIRST:]))}


def operators(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, list[str]]:
    """Of each named module its operators, or kernels on a GPU, by name, longest first."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for layer, event in profiled(net, names, x, 1):
        if not x.is_cuda:
            spent[layer][event.name] += event.self_cpu_time_total
        for kernel in event.kernels:
            spent[layer][kernel.name] += kernel.duration
    return {n: sorted(own, key=lambda name: -own[name]) for n, own in spent.items()}


def profiled(
    net: nn.Module, names: Sequence[str], x: Tensor, passes: int
) -> Iterator[tuple[str, Any]]:
    """The profiler's events inside each named module, with its name, in some forward passes."""
    scopes: dict[str, record_function] = {}

    def start(name: str, *_: Any) -> None:
        scopes[name] = record_function(f"layer {name}")
        scopes[name].__enter__()

    def stop(name: str, *_: Any) -> None:
        scopes[name].__exit__(None, None, None)

    watched = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * x.is_cuda]
    with hooked(net, names, start, stop), profile(activities=watched) as seen:
        for _ in range(passes):
            net(x)
        if x.is_cuda:
            torch.cuda.synchronize()
    for event in seen.events() or ():
        outer = event.cpu_parent
        while outer is not None and not outer.name.startswith("layer "):
            outer = outer.cpu_parent
        if outer is not None:
            yield outer.name.removeprefix("layer "), event


@contextmanager
def hooked(
    net: nn.Module, names: Sequence[str], start: Callable[..., None], stop: Callable[..., None]
) -> Iterator[None]:
    """While the block runs, `start(name, ...)` and `stop(name, ...)` enclose a module's calls.

    Those of its parts, for a chain: folding inlines chains, so they are not called themselves.
    """
    hooks = []
    for name in names:
        whole = net.get_submodule(name)
        chain = type(whole) in (nn.Sequential, nn.Module)  # the latter after tracing
        for module in [m for m in whole.modules() if not list(m.children())] if chain else [whole]:
            hooks.append(module.register_forward_pre_hook(partial(start, name)))
            hooks.append(module.register_forward_hook(partial(stop, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
