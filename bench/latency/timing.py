"""Timers, warm-up and interleaved rounds. Times are milliseconds per call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.latency.statistics import Times

TURN_MS = 2.0
LONGEST_TURN = 20
FEWEST_ROUNDS, MOST_ROUNDS = 8, 400
OVERRUN = 2.0


class Timer(Protocol):
    """Calls `call` some times and says how long each took, in milliseconds."""

    def __call__(self, call: Callable[[], Any], calls: int) -> list[float]:
        """The times of `calls` calls."""


@dataclass(frozen=True)
class Warmth:
    """Untimed work before timing: at least so many calls and so many milliseconds."""

    calls: int
    ms: float


COOL = Warmth(calls=3, ms=20)
"""CPU: caches, allocator and thread pool."""
HOT = Warmth(calls=25, ms=300)
"""CUDA: the clock ramps from idle to boost during the first hundreds of milliseconds."""


def wall(call: Callable[[], Any], calls: int) -> list[float]:
    """Wall time of each call on the CPU."""
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def events(call: Callable[[], Any], calls: int) -> list[float]:
    """Device time of each call, by CUDA events around it; synchronised at the end of the turn."""
    import torch

    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2 * calls)]
    for start, end in zip(marks[::2], marks[1::2], strict=True):
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in zip(marks[::2], marks[1::2], strict=True)]


def warm(call: Callable[[], Any], timer: Timer, warmth: Warmth) -> float:
    """Warm `call` up; its shortest time so far, in milliseconds."""
    times = timer(call, warmth.calls)
    while (missing := warmth.ms - sum(times)) > 0:
        times += timer(call, max(1, min(1000, math.ceil(missing / max(np.median(times), 1e-3)))))
    return min(times)


def interleave(
    calls: Sequence[Callable[[], Any]],
    timer: Timer,
    seconds: float,
    warmth: Warmth = COOL,
    ready: Callable[[], Any] = lambda: None,
) -> list[Times]:
    """Times of each of `calls`, taken in turns: A B A B ...

    A turn is one untimed call, which brings the side's weights back into the caches that the other
    side used, and then enough timed calls for 2 ms (1 to 20). Thus both sides are seen as they run
    in service, and whatever drifts over seconds hits both.

    Args:
        calls: the sides.
        timer: how to time a call.
        seconds: for all sides together, the untimed calls included; at least 8 rounds are made.
        warmth: warm-up of each side, before the rounds.
        ready: called between the two.

    Returns:
        For each side an array (rounds, timed calls per turn); row i of all sides is one round.
    """
    floors = [max(warm(call, timer, warmth), 1e-4) for call in calls]
    ready()
    turns = [max(1, min(LONGEST_TURN, math.ceil(TURN_MS / floor))) for floor in floors]
    round_ms = sum((turn + 1) * floor for turn, floor in zip(turns, floors, strict=True))
    rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, round(1000 * seconds / round_ms)))
    times: list[list[list[float]]] = [[] for _ in calls]
    spent = 0.0
    for count in range(rounds):
        # On a crowded machine calls take many times their minimum; the plan must not take as many
        # times.
        if count >= FEWEST_ROUNDS and spent > OVERRUN * 1000 * seconds:
            break
        for side, call, turn in zip(times, calls, turns, strict=True):
            taken = timer(call, turn + 1)
            spent += sum(taken)
            side.append(taken[1:])
    return [np.asarray(side, dtype=np.float64) for side in times]
