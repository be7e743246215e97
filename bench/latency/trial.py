"""One condition of measurement: its nets, made ready and admitted, and its rows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bench import env, kernels
from bench.latency import machine, statistics, table, timing
from bench.latency.agreement import Agreement, Disagreement, agreement
from bench.latency.config import LatencyConfig
from bench.latency.contest import Contest, compete
from bench.latency.extras import extras
from bench.latency.gate import Gate, WrongOutput, gate, other_than
from bench.latency.prepare import Cell, Prepared, Variant, inputs, prepare, variants, why
from bench.latency.table import COLUMNS, Row
from bench.spec import PROTOCOL

TRIAL_CALLS = 5


class Target(NamedTuple):
    """One stored net: a point of a run, the digest of its tensors and the folder that holds it."""

    run: str
    point: int
    digest: str
    folder: Path


class Checked(NamedTuple):
    """What the checks before any timing found of a path."""

    error: float
    """Relative, of the output."""
    agreement: float | None
    """Share of real images that get the pruned net's class; none where there are none."""


@dataclass(frozen=True)
class Setting:
    """What stays the same over all cells.

    `images`: gives real ones, for the top-1 agreement, or none; called when they are needed.
    """

    dense: Target
    shape: tuple[int, ...]
    config: LatencyConfig
    labels: dict[str, str]
    load: Callable[[Path], nn.Module]
    timer: timing.Timer | None
    previous: dict[tuple[Any, ...], list[Row]]
    images: Callable[[], Tensor | None] | None = None

    def time(self, device: str) -> timing.Timer:
        """How calls are timed there."""
        return self.timer or (timing.events if device == "cuda" else timing.wall)


@dataclass
class Trial:
    """What all measurements of one cell share."""

    setting: Setting
    cell: Cell
    known: tuple[str, Gate, Agreement | None] | None = None

    @cached_property
    def x(self) -> Tensor:
        """The input, (batch, *shape)."""
        return inputs(self.setting.shape, self.cell)

    @cached_property
    def other(self) -> Tensor:
        """Another input, for the gate."""
        return other_than(self.x, self.cell)

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
            "role": "baseline" if target == self.setting.dense else "candidate",
            "device_name": self.name,
            "protocol": PROTOCOL,
            "torch": str(torch.__version__),
            "library": kernels.load(path).version() or None,  # as an empty cell reads
            "settings": self.setting.config.digest,
            "restarts": 1,
            "reason": "",
        }
        return row | values

    def earlier(self, target: Target, path: str) -> list[Row]:
        """Rows of an earlier call that measured the same, under the names of today."""
        probe = self.blank(target, path)
        names = {"run": target.run, "point": target.point} | self.setting.labels
        return [row | names for row in self.setting.previous.get(table.identity(probe), [])]

    def failed(self, target: Target, path: str, error: Exception) -> Row:
        """The row of what raised."""
        return self.blank(target, path, status="failed", reason=why(error))

    def legal(self, kernel: kernels.Kernel, model: nn.Module) -> list[Variant]:
        """The ways to run `model` on that path."""
        return variants(kernel, model, self.cell, self.setting.config.compile)

    def admit(
        self, model: nn.Module, kernel: kernels.Kernel, target: Target, legal: Sequence[Variant]
    ) -> tuple[list[tuple[Prepared, Checked]], list[Row]]:
        """The variants that run and pass the checks, with what these found; rows of the others."""
        if self.cell.device == "cuda":
            gc.collect()  # traced nets are cycles: those that are done with still hold GPU memory
        door, same = self.doors(model, target)
        able, failed = [], []
        for variant in legal:
            try:
                side = prepare(model, kernel, self.cell, variant, self.x, target.digest)
                error = door.check(side)
                able.append((side, Checked(error, same.check(side, error) if same else None)))
            except Exception as said:  # it may fail in any way: that becomes a row, not the end
                wrong = said.distance if isinstance(said, WrongOutput) else None
                share = said.share if isinstance(said, Disagreement) else None
                found = {"output_error": wrong, "top1_agreement": share}
                row = self.failed(target, kernel.name, said) | found
                failed.append(row | variant._asdict())
        return able, failed

    def doors(self, model: nn.Module, target: Target) -> tuple[Gate, Agreement | None]:
        """The checks of a net, made once for all paths: they come one after another.

        Agreement takes many calls, so it is checked at the largest batch alone; what a path does
        otherwise at others the gate sees.
        """
        if self.known is None or self.known[0] != target.digest:
            door = gate(model, self.cell, self.x, self.other)
            most, given = max(self.setting.config.batch_sizes), self.setting.images
            images = given() if given and self.cell.batch == most else None
            same = None if images is None else agreement(model, self.cell, images)
            self.known = (target.digest, door, same)
        return self.known[1:]

    def glance(self, side: Prepared) -> float:
        """A short look at a variant's speed, in milliseconds; never part of a result."""
        timer = self.setting.time(self.cell.device)
        timer(side, 2)
        return float(np.median(timer(side, TRIAL_CALLS))) / side.copies

    def compete(self, sides: Sequence[Prepared]) -> Contest:
        """Time `sides` in turns."""
        timer, seconds = self.setting.time(self.cell.device), self.setting.config.seconds_per_cell
        return compete(sides, self.cell, timer, seconds)

    def result(
        self,
        target: Target,
        side: Prepared,
        checked: Checked,
        contest: Contest,
        index: int,
        speed: dict[str, float],
        against: str,
    ) -> Row:
        """A measured row."""
        status = "unsteady" if contest.complaint else "ok"
        reason = "; ".join(filter(None, (contest.complaint, side.note)))
        values: Row = {
            "output_error": checked.error,
            "top1_agreement": checked.agreement,
            "status": status,
            "reason": reason,
            "against": against,
            **side.variant._asdict(),
        }
        values |= statistics.summarise(contest.times[index]) | speed
        values |= machine.columns(*contest.states)
        timer = self.setting.time(self.cell.device)
        values |= extras(side, self.cell, self.setting.config, timer)
        return self.blank(target, side.path, **values)
