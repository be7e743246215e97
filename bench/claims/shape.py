"""Does a curve fall, rise, fall? Turning points found on some seeds, changes measured on another.

A curve of pure noise has a lowest point, too. So that noise makes no turn, a seed's changes are
taken between the turning points of the *other* seeds' mean. And so that a curve that only falls
does not "fall again" after a rise of noise, a phase counts as far as those before it do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np

SIGNS = {"falls": -1, "rises": 1}


def changes(curves: Mapping[int, np.ndarray], phases: Sequence[str]) -> list[dict[int, float]]:
    """For each phase the change of each seed, the least of the phases so far.

    Positive where the curve goes as they say. `curves`: seed -> values by round, all of one length,
    of two seeds or more.
    """
    found: dict[int, np.ndarray] = {}
    for seed, curve in curves.items():
        others = np.mean([values for other, values in curves.items() if other != seed], axis=0)
        found[seed] = np.minimum.accumulate(along(curve, turns(others, phases), phases))
    return [{seed: float(own[i]) for seed, own in found.items()} for i in range(len(phases))]


def reached(curves: Mapping[int, np.ndarray], phases: Sequence[str], least: float) -> int:
    """How many of the phases, up to the last one that is seen, the mean curve has before it ends.

    A change below `least` is none. What would come after the last of them may come in rounds that
    were not run; a phase that is missing before it is missing for good.
    """
    mean = np.mean(list(curves.values()), axis=0)
    seen = np.flatnonzero(along(mean, turns(mean, phases), phases) >= least)
    return int(seen[-1]) + 1 if len(seen) else 1


def turns(curve: np.ndarray, phases: Sequence[str]) -> tuple[int, ...]:
    """The rounds where the phases begin, and the last one, so that the curve changes most.

    A phase that the curve does not have gets no rounds. Turns are as late as they can be.
    """
    last = len(curve) - 1

    def total(inner: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        return round(float(along(curve, (0, *inner, last), phases).sum()), 12), inner

    inner = max(combinations_with_replacement(range(last + 1), len(phases) - 1), key=total)
    return (0, *inner, last)


def along(curve: np.ndarray, ends: Sequence[int], phases: Sequence[str]) -> np.ndarray:
    """The change from each of the `ends` to the next, positive if it goes as the phase says."""
    return np.array([SIGNS[phase] for phase in phases]) * np.diff(np.asarray(curve)[list(ends)])
