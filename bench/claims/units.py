"""The units that claims are measured in: on which scale, how they are written and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.tables.texts import digits, spread, times


@dataclass(frozen=True)
class Scale:
    """Where means over seeds are taken, and back."""

    forward: Callable[[float], float]
    back: Callable[[float], float]


def same(value: float) -> float:
    """The value itself."""
    return value


EDGE = 1 - 1e-12
"""Keeps the transform of a perfect correlation finite."""
LINEAR = Scale(same, same)
LOG = Scale(math.log, math.exp)
FISHER = Scale(lambda r: math.atanh(max(-EDGE, min(EDGE, r))), math.tanh)


@dataclass(frozen=True)
class Unit:
    """One kind of number."""

    scale: Scale
    step: Callable[[float], float]
    """To where a figure draws it; a step of 1 means as much in every unit."""
    says: Callable[[float, float, float], str]
    """Mean, low and high as a text."""


def points(mean: float, low: float, high: float) -> str:
    """`+0.41 ± 0.95`."""
    return spread(mean, (high - low) / 2)


def share(mean: float, low: float, high: float) -> str:
    """`2.1 ± 0.3 %`."""
    if low == high:
        return f"{100 * mean:.4g} %"
    return f"{digits(100 * mean)} ± {digits(50 * (high - low))} %"


def index(mean: float, low: float, high: float) -> str:
    """`-0.120 ± 0.004`."""
    return f"{mean:+.3f} ± {(high - low) / 2:.3f}"


def ratio(mean: float, low: float, high: float) -> str:
    """`2.05× [1.90, 2.21]`; without an interval where all seeds agree."""
    if digits(low) == digits(high):
        return times(mean)
    return f"{times(mean)} [{digits(low)}, {digits(high)}]"


def correlation(mean: float, low: float, high: float) -> str:
    """`0.43 [0.25, 0.59]`."""
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


UNITS = {
    "points": Unit(LINEAR, same, points),
    "times": Unit(LOG, math.log2, ratio),
    "correlation": Unit(FISHER, lambda r: 10 * r, correlation),
    "share": Unit(LINEAR, lambda part: 100 * part, share),
    "index": Unit(LINEAR, lambda value: 10 * value, index),
}
"""Points of accuracy or error; doublings; tenths of a correlation or index; hundredths."""
