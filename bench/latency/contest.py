"""Some ways to run nets, timed in turns, again where the machine was unsteady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.latency import machine, statistics, timing
from bench.latency.prepare import Cell, Prepared

ATTEMPTS = 2


@dataclass(frozen=True)
class Contest:
    """Times of some sides taken in turns, the machine's states around them, what was unsteady."""

    times: list[statistics.Times]
    states: tuple[machine.State, machine.State]
    complaint: str

    def complaining(self, more: str) -> Contest:
        """The same with another complaint added, if there is one."""
        return replace(self, complaint="; ".join(filter(None, (self.complaint, more))))


def _look(looks: list[machine.State], device: str) -> None:
    looks.append(machine.look(device))


def compete(sides: Sequence[Prepared], cell: Cell, timer: timing.Timer, seconds: float) -> Contest:
    """Time `sides` in turns; again, up to a limit, as long as the machine was unsteady.

    `seconds`: for a pair of sides; more sides get more, and a GPU at least 0.3 for each.
    """
    hot = cell.device == "cuda"
    warmth = timing.HOT if hot else timing.COOL
    seconds *= max(1, len(sides) / 2)
    seconds = max(seconds, 0.3 * len(sides)) if hot else seconds
    for _ in range(ATTEMPTS):
        # a GPU's clock ramps while it warms up: the first look comes after that
        looks: list[machine.State] = []
        look = partial(_look, looks, cell.device)
        raw = timing.interleave(sides, timer, seconds, warmth, look)
        look()
        before, after = looks
        times = [side_times / side.copies for side, side_times in zip(sides, raw, strict=True)]
        spreads = [
            (str(side), float(np.median(taken) / taken.min()))
            for side, taken in zip(sides, times, strict=True)
        ]
        drifts = [
            (str(side), statistics.drift(taken, times[0]))
            for side, taken in zip(sides, times, strict=True)
        ]
        complaint = machine.complaint(before, after, spreads, cell.device, cell.threads, drifts)
        contest = Contest(times, (before, after), complaint)
        if not complaint:
            break
    return contest
