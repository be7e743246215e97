"""The state of the machine around a measurement, and the rule that refuses an unsteady one.

The load average counts our own threads and remembers a minute, so the jobs that ended just before a
measurement would refuse it and a burst in its middle would not. It is recorded; the rule looks at
what others really used *while* we timed: busy time of our cores minus our own processor time, in
cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from bench import env

SPREAD = 1.3
"""Largest median / minimum of a steady measurement."""
GRAIN = 0.1
"""Cores; the system counts busy time in ticks of 10 ms, a few per cent of a short cell."""
DRIFT = 0.03
"""Largest relative change on a GPU between the halves of a steady measurement."""


_flushing: list[bool] = []


@dataclass(frozen=True)
class State:
    """The machine at one moment."""

    load: float | None
    busy: float
    own: float
    clock: float
    sensors: dict[str, Any]


def look(device: str) -> State:
    """The machine now: load average, busy seconds of our cores, our own seconds, clocks."""
    gpu = (
        str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        if device == "cuda"
        else None
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    own = time.process_time()
    return State(load, busy(), own, time.perf_counter(), env.clocks(gpu))


def busy() -> float:
    """Seconds, summed over the cores we may use, in which they worked (stolen time included)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    times = psutil.cpu_times(percpu=True)
    chosen = [core for index, core in enumerate(times) if allowed is None or index in allowed]
    # `guest` is already part of `user`; idle and waiting for disks leave a core free.
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(core, name, 0.0) for core in chosen for name in names)


def others(before: State, after: State) -> float:
    """Cores' worth of work that was not ours between two states."""
    seconds = max(after.clock - before.clock, 1e-9)
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / seconds)


def allowance(threads: int, cores: int) -> float:
    """Cores' worth of foreign work that a measurement bears: free cores and a half, at most one."""
    return min(1.0, max(0, cores - threads) + 0.5)


def complaint(
    before: State,
    after: State,
    medians: Sequence[tuple[str, float]],
    device: str,
    threads: int,
    drifts: Sequence[tuple[str, float]] = (),
) -> str:
    """Why the measurement between two states is unsteady; empty if it is steady.

    Of a GPU at its power limit the clock jumps by 10 % and more from one reading to the next (seen
    on an H200), so two readings say little: the last is recorded, and the paired times are judged.

    Args:
        before: the state before the first timed call.
        after: the state after the last.
        medians: each side's name and the median / minimum of its times.
        device: cpu or cuda.
        threads: of our calls.
        drifts: each side's name and how far its paired ratio moved between the halves.
    """
    reasons = [
        f"{side}: median is {ratio:.2f} x minimum" for side, ratio in medians if ratio > SPREAD
    ]
    if device == "cpu":
        foreign, allowed = others(before, after), allowance(threads, env.cores())
        if foreign > allowed + GRAIN:
            reasons.append(
                f"other processes used {foreign:.2f} cores, at most {allowed:.1f} are borne"
            )
    else:
        reasons += [
            f"{side}: against the first, it moved by {100 * drift:.1f} % between the halves"
            for side, drift in drifts
            if drift > DRIFT
        ]
    return "; ".join(reasons)


def columns(before: State, after: State) -> dict[str, Any]:
    """The states under the table's column names; sensors as they were at the end, under load."""
    return {"load_before": before.load, "load_after": after.load, **after.sensors}


@contextmanager
def pinned(device: str, threads: int, dtype: str = "fp32") -> Iterator[None]:
    """Threads set, sub-normals flushed, TF32 only if asked, cuDNN's search on; then restored."""
    old_threads, old_search = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    try:
        with flushed(), torch.inference_mode(), exact(dtype != "tf32"):
            yield
    finally:
        torch.backends.cudnn.benchmark = old_search
        torch.set_num_threads(old_threads)


@contextmanager
def flushed() -> Iterator[None]:
    """Sub-normal numbers are zero, in this thread and in those that it makes meanwhile.

    Threads inherit that when they are made: whoever measures enters this before torch has any.
    """
    _flushing.append(True)
    settle()
    try:
        yield
    finally:
        _flushing.pop()
        settle()


def settle() -> None:
    """Set this thread's handling of sub-normals as it should be now; other libraries change it."""
    torch.set_flush_denormal(bool(_flushing))


@contextmanager
def exact(wanted: bool = True) -> Iterator[None]:
    """Products of fp32 numbers on a GPU without TF32, or with it; then as before."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    old = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = not wanted
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = old
