"""The time of each layer inside a net that runs, and the operator that took it. CPU only."""

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
from bench.latency.prepare import DTYPES

PASSES, FIRST = 9, 2
"""Forward passes that count, after the first ones that do not."""
WHOLE = ""


def ready(model: nn.Module, path: Kernel | None, dtype: str, layout: str) -> nn.Module:
    """A copy of `model` as a measurement runs it eagerly: folded, converted (no path: dense)."""
    net, _ = fold(copy.deepcopy(model).eval())
    net = net.to(DTYPES[dtype])
    net = net.to(memory_format=torch.channels_last) if layout == "nhwc" else net
    return path.convert(net) if path else net


def clock(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, float]:
    """Median ms of a forward pass of `x` in each named module, all its calls together.

    And, under `WHOLE`, in the whole net.
    """
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


def operators(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, list[str]]:
    """Of each named module its operators, by the profiler's names, longest first."""
    scopes: dict[str, record_function] = {}

    def start(name: str, *_: Any) -> None:
        scopes[name] = record_function(f"layer {name}")
        scopes[name].__enter__()

    def stop(name: str, *_: Any) -> None:
        scopes[name].__exit__(None, None, None)

    with hooked(net, names, start, stop), profile(activities=[ProfilerActivity.CPU]) as seen:
        net(x)
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in seen.events() or ():
        outer = event.cpu_parent
        while outer is not None and not outer.name.startswith("layer "):
            outer = outer.cpu_parent
        if outer is not None:
            spent[outer.name.removeprefix("layer ")][event.name] += event.self_cpu_time_total
    return {n: sorted(own, key=lambda name: -own[name]) for n, own in spent.items()}


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
