"""The work of one cell: dense variants, their best as denominator, each point against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bench import env, kernels
from bench.latency import machine, statistics, table, timing
from bench.latency.gate import WrongOutput, gate
from bench.latency.prepare import Cell, Prepared, Variant, inputs, prepare, variants, why
from bench.latency.table import COLUMNS, Row
from bench.spec import PROTOCOL
from bench.suite import LatencyConfig

ATTEMPTS = {"cpu": 2, "cuda": 3}
TRIAL_CALLS = 5
CONTROL_BAND = 0.03


class Target(NamedTuple):
    """One stored net: a point of a run, the digest of its tensors and the folder that holds it."""

    run: str
    point: int
    digest: str
    folder: Path


@dataclass(frozen=True)
class Setting:
    """What stays the same over all cells."""

    dense: Target
    shape: tuple[int, ...]
    config: LatencyConfig
    labels: dict[str, str]
    load: Callable[[Path], nn.Module]
    timer: timing.Timer | None
    previous: dict[tuple[Any, ...], list[Row]]

    def time(self, device: str) -> timing.Timer:
        """How calls are timed there."""
        return self.timer or (timing.events if device == "cuda" else timing.wall)


@dataclass(frozen=True)
class Contest:
    """Times of some sides taken in turns, the machine's states around them, what was unsteady."""

    times: list[statistics.Times]
    states: tuple[machine.State, machine.State]
    complaint: str


@dataclass
class Trial:
    """The work of one cell."""

    setting: Setting
    cell: Cell
    reused: bool = field(default=False, init=False)
    """Whether the dense rows came from an earlier call; only then may the points' rows, too."""

    @cached_property
    def x(self) -> Tensor:
        """The input, (batch, *shape)."""
        return inputs(self.setting.shape, self.cell)

    @cached_property
    def dense(self) -> nn.Module:
        """The unpruned net."""
        return self.setting.load(self.setting.dense.folder)

    @cached_property
    def name(self) -> str:
        """Of the device."""
        return torch.cuda.get_device_name() if self.cell.device == "cuda" else env.cpu_name()

    def blank(self, target: Target, path: str, **values: Any) -> Row:
        """A row of this cell with the given values."""
        row: Row = dict.fromkeys(COLUMNS) | self.setting.labels | self.cell._asdict()
        row |= {"run": target.run, "point": target.point, "digest": target.digest, "path": path}
        row |= {
            "device_name": self.name,
            "protocol": PROTOCOL,
            "torch": str(torch.__version__),
            "reason": "",
        }
        return row | values

    def earlier(self, target: Target, path: str) -> list[Row]:
        """Rows of an earlier call that measured the same, under the names of today."""
        probe = self.blank(target, path)
        names = {"run": target.run, "point": target.point} | self.setting.labels
        return [row | names for row in self.setting.previous.get(table.identity(probe), [])]

    @cached_property
    def baseline(self) -> list[Row]:
        """A row per variant of the dense net; the best one's is its control against itself."""
        kernel, target = kernels.load("dense"), self.setting.dense
        legal = variants(kernel, self.dense, self.cell, self.setting.config.compile)
        known = self.earlier(target, kernel.name)
        if {(row["mode"], row["layout"]) for row in known} >= {tuple(variant) for variant in legal}:
            self.reused = True
            return known
        try:
            able, rows = self.admit(self.dense, kernel, target, legal)
        except Exception as error:  # whatever torch raises for a net, dtype or device it cannot run
            return [self.blank(target, kernel.name, status="failed", reason=why(error))]
        if not able:
            return rows
        contest = self.compete([side for side, _ in able])
        best = int(np.argmin([np.median(times) for times in contest.times]))
        for index, (side, distance) in enumerate(able):
            if index == best:
                rows.append(self.control(side, distance))
                continue
            numbers = statistics.speedup(contest.times[best], contest.times[index])
            rows.append(self.result(target, side, distance, contest, index, numbers))
        return rows

    def control(self, best: Prepared, error: float) -> Row:
        """The best dense variant against a second copy of itself; off 1.00 it is unsteady."""
        twin = prepare(
            self.dense, kernels.load("dense"), self.cell, best.variant, self.x, best.digest
        )
        contest = self.compete([best, twin])
        numbers = statistics.speedup(contest.times[0], contest.times[1])
        far = abs(numbers["speedup"] - 1) > CONTROL_BAND
        if far and not numbers["speedup_low"] <= 1 <= numbers["speedup_high"]:
            reason = f"the dense net against itself reads {numbers['speedup']:.2f}"
            contest = replace(
                contest, complaint="; ".join(filter(None, (contest.complaint, reason)))
            )
        return self.result(self.setting.dense, twin, error, contest, 1, numbers)

    @cached_property
    def denominator(self) -> Prepared | None:
        """The fastest dense variant, ready to run; none if no dense variant ran."""
        ran = [row for row in self.baseline if row["speedup"] is not None]
        if not ran:
            return None
        # Speed-ups were paired; the best one's times come from its control, a moment later.
        best = max(ran, key=lambda row: row["speedup"])
        variant = Variant(best["mode"], best["layout"])
        return prepare(
            self.dense, kernels.load("dense"), self.cell, variant, self.x, self.setting.dense.digest
        )

    def row(self, target: Target, kernel: kernels.Kernel) -> tuple[Row, bool]:
        """The row of one point on one path, and whether it was measured now."""
        known = self.earlier(target, kernel.name) if self.reused else []
        if known:
            return known[0], False
        try:
            return self.candidate(target, kernel)
        except Exception as error:  # an error of one point must not take the others' rows with it
            return self.blank(target, kernel.name, status="failed", reason=why(error)), True

    def candidate(self, target: Target, kernel: kernels.Kernel) -> tuple[Row, bool]:
        """Measure one point on one path."""
        model = self.setting.load(target.folder)
        applies, reason = kernel.applies(model, self.dense, self.cell.device, self.cell.dtype)
        if not applies:
            return self.blank(target, kernel.name, status="unsupported", reason=reason), False
        if self.denominator is None:
            reason = "no variant of the dense net ran in this cell"
            return self.blank(target, kernel.name, status="failed", reason=reason), False
        legal = variants(kernel, model, self.cell, self.setting.config.compile)
        able, failed = self.admit(model, kernel, target, legal)
        wrong = next((row for row in failed if row["output_error"] is not None), None)
        if wrong or not able:
            return wrong or failed[0], True
        side, error = min(able, key=lambda pair: self.trial(pair[0]))
        contest = self.compete([self.denominator, side])
        numbers = statistics.speedup(contest.times[0], contest.times[1])
        row = self.result(target, side, error, contest, 1, numbers)
        skipped = [f"{row['mode']}/{row['layout']} failed: {row['reason']}" for row in failed]
        row["reason"] = "; ".join(filter(None, (row["reason"], *skipped)))
        return row, True

    def admit(
        self, model: nn.Module, kernel: kernels.Kernel, target: Target, legal: Sequence[Variant]
    ) -> tuple[list[tuple[Prepared, float]], list[Row]]:
        """The variants that run and pass the gate, with their errors; rows of the others."""
        door = gate(model, self.cell, self.x)
        able, failed = [], []
        for variant in legal:
            try:
                side = prepare(model, kernel, self.cell, variant, self.x, target.digest)
                able.append((side, door.check(side)))
            except (
                Exception
            ) as error:  # a variant may fail in any way; it becomes a row, not the end
                wrong = error.distance if isinstance(error, WrongOutput) else None
                row = self.blank(
                    target, kernel.name, status="failed", reason=why(error), output_error=wrong
                )
                failed.append(row | variant._asdict())
        return able, failed

    def trial(self, side: Prepared) -> float:
        """A short look at a variant's speed, in milliseconds; never part of a result."""
        timer = self.setting.time(self.cell.device)
        timer(side, 2)
        return float(np.median(timer(side, TRIAL_CALLS))) / side.copies

    def compete(self, sides: Sequence[Prepared]) -> Contest:
        """Time `sides` in turns; again, up to a limit, as long as the machine was unsteady."""
        device, threads = self.cell.device, self.cell.threads
        hot = device == "cuda"
        warmth = timing.HOT if hot else timing.COOL
        seconds = self.setting.config.seconds_per_cell * max(1, len(sides) / 2)
        seconds = max(seconds, 0.3 * len(sides)) if hot else seconds
        for _ in range(ATTEMPTS[device]):
            before = machine.look(device)
            raw = timing.interleave(sides, self.setting.time(device), seconds, warmth)
            after = machine.look(device)
            times = [side_times / side.copies for side, side_times in zip(sides, raw, strict=True)]
            spreads = {
                f"{side.path} {'/'.join(side.variant)}": float(np.median(taken) / taken.min())
                for side, taken in zip(sides, times, strict=True)
            }
            complaint = machine.complaint(before, after, spreads, device, threads)
            contest = Contest(times, (before, after), complaint)
            if not complaint:
                break
        return contest

    def result(
        self,
        target: Target,
        side: Prepared,
        error: float,
        contest: Contest,
        index: int,
        speed: dict[str, float],
    ) -> Row:
        """A measured row."""
        status = "unsteady" if contest.complaint else "ok"
        reason = "; ".join(filter(None, (contest.complaint, side.note)))
        values: Row = {
            "output_error": error,
            "status": status,
            "reason": reason,
            **side.variant._asdict(),
        }
        values |= (
            statistics.summarise(contest.times[index]) | speed | machine.columns(*contest.states)
        )
        return self.blank(target, side.path, **values)
