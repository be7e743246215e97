"""The unpruned net in one cell: every way to run it, the fastest as denominator, its controls."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from bench import kernels
from bench.kernels import Kernel
from bench.latency import statistics
from bench.latency.prepare import Prepared, Variant, prepare, way
from bench.latency.table import Row
from bench.latency.trial import Checked, Trial

CONTROL_BAND = 0.03
"""A smaller deviation from 1 is never held against anything."""


class Baseline:
    """The rows of the unpruned net, and the side that all others are measured against."""

    def __init__(self, trial: Trial) -> None:
        """Paths that are baselines compete; those for layers must leave the unpruned net alone."""
        self.trial, self.target = trial, trial.setting.dense
        config = trial.setting.config
        cell, names = trial.cell, dict.fromkeys(["dense", *config.baselines, *config.paths])
        found = [kernels.load(name) for name in names]
        self.others = [
            path
            for path in found
            if path.rule is None and cell.dtype in path.dtypes.get(cell.device, ())
        ]
        self.rivals: list[tuple[Kernel, list[Variant]]] = [
            (path, trial.legal(path, trial.dense))
            for path in found
            if path.baseline and path.applies(trial.dense, trial.dense, cell.device, cell.dtype)[0]
        ]

    @cached_property
    def earlier(self) -> list[Row]:
        """The rows of an earlier call, if it has all; only then may those of points be reused."""
        rows: list[Row] = []
        for path, legal in self.rivals:
            known = self.trial.earlier(self.target, path.name)
            if not {(row["mode"], row["layout"]) for row in known} >= set(map(tuple, legal)):
                return []
            rows += known
        for path in self.others:
            known = self.trial.earlier(self.target, path.name)
            if not known:
                return []
            rows += known
        return rows

    @cached_property
    def rows(self) -> list[Row]:
        """A row for each way to run the net; the best one's is its A/A pair. Then the controls."""
        return self.earlier or self.measured()

    def measured(self) -> list[Row]:
        """The rows, measured now."""
        able, rows = [], []
        for path, legal in self.rivals:
            try:
                sides, failed = self.trial.admit(self.trial.dense, path, self.target, legal)
            except Exception as error:  # whatever torch raises for what it cannot run
                sides, failed = [], [self.trial.failed(self.target, path.name, error)]
            able += sides
            rows += failed
        if not able:
            return rows
        contest = self.trial.compete([side for side, _ in able])
        best = int(np.argmin([np.median(times) for times in contest.times]))
        for index, (side, checked) in enumerate(able):
            if index == best:
                twin = self.made(kernels.load(side.path), side.variant)
                rows.append(self.tie(side, twin, checked) | {"role": "twin"})
                continue
            speed = statistics.speedup(contest.times[best], contest.times[index])
            against = str(able[best][0])
            rows.append(
                self.trial.result(self.target, side, checked, contest, index, speed, against)
            )
        return rows + [self.untouched(path) | {"role": "control"} for path in self.others]

    def made(self, path: Kernel, variant: Variant) -> Prepared:
        """A copy of the net, ready to run in that way."""
        trial = self.trial
        return prepare(trial.dense, path, trial.cell, variant, trial.x, self.target.digest)

    def untouched(self, path: Kernel) -> Row:
        """The net through a path for zeros, against the same net, run in the same way, without."""
        try:
            legal = self.trial.legal(path, self.trial.dense)[:1]
            sides, failed = self.trial.admit(self.trial.dense, path, self.target, legal)
            if failed:
                return failed[0]
            side, checked = sides[0]
            return self.tie(self.made(kernels.load("dense"), side.variant), side, checked)
        except Exception as error:
            return self.trial.failed(self.target, path.name, error)

    def tie(self, side: Prepared, twin: Prepared, checked: Checked) -> Row:
        """`twin` against `side`, which does the same work: its row is kept as it reads."""
        contest = self.trial.compete([side, twin])
        speed = statistics.speedup(contest.times[0], contest.times[1])
        return self.trial.result(self.target, twin, checked, contest, 1, speed, str(side))

    @cached_property
    def best(self) -> Prepared | None:
        """The fastest way to run the unpruned net, ready; none if none ran."""
        row = self.twin
        if row is None:
            return None
        return self.made(kernels.load(row["path"]), Variant(row["mode"], row["layout"]))

    @property
    def twin(self) -> Row | None:
        """The row of the fastest way against itself."""
        return next((row for row in self.rows if row["role"] == "twin"), None)

    @property
    def name(self) -> str:
        """Of the fastest way, as in the column `against`; empty if none ran."""
        row = self.twin
        return way(row["path"], row["mode"], row["layout"]) if row else ""

    @property
    def complaint(self) -> str:
        """Why no speed-up of this cell can be trusted; empty if they can."""
        if self.twin is None or abs(self.twin["speedup"] - 1) <= CONTROL_BAND:
            return ""
        if self.twin["speedup_low"] <= 1 <= self.twin["speedup_high"]:
            return ""
        return f"the dense net against itself reads {self.twin['speedup']:.2f}"
