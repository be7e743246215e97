"""The measuring protocol: gate, warm-up, interleaved rounds, the best dense net as denominator.

For each cell (device, dtype, batch, threads):

1. Every legal way to run the unpruned net (eager, graphed, compiled; NCHW, NHWC; on each path that
   is a baseline) is timed in turns; each is a row.
2. The fastest is the denominator of the cell. Its own row is timed a second time as two separate
   copies of it against each other, and every path that exploits zeros is given the unpruned net,
   which it has to leave as it is: negative controls, which must read 1.00.
3. Each point and path passes the gate in each legal variant, and gives real images the same
   classes; a short trial picks its fastest variant, and that one is timed in turns with the
   denominator, so the dense times in a speed-up are always fresh.

An unsteady measurement is discarded and repeated; if it stays unsteady its numbers are kept under
that status, with the reason, and no table may use them. Host-device copies are in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import env, kernels
from bench.latency import candidate, machine, table, timing
from bench.latency.baseline import Baseline
from bench.latency.config import LatencyConfig
from bench.latency.prepare import Cell
from bench.latency.table import Row
from bench.latency.trial import Setting, Target, Trial


def measure(
    points: Sequence[Target],
    dense: Target,
    shape: tuple[int, ...],
    config: LatencyConfig,
    *,
    dataset: str = "",
    arch: str = "",
    previous: Iterable[Row] = (),
    save: Callable[[list[Row]], None] | None = None,
    timer: timing.Timer | None = None,
    load: Callable[[Path], nn.Module] | None = None,
    images: Callable[[], Tensor | None] | None = None,
) -> list[Row]:
    """Latency rows of the dense net and of every point, path and cell.

    Args:
        points: the pruned nets; those of the dense run are left out, its rows are the baseline's.
        dense: the unpruned net they came from (same seed).
        shape: (C, H, W) of one sample.
        config: what to measure.
        dataset: label of the rows.
        arch: label of the rows.
        previous: rows of an earlier call; good ones are reused by digest, not measured again.
        save: called with all rows so far after each new measurement.
        timer: replaces the clock (tests).
        load: folder to net; default `bench.surgery.store.load`.
        images: gives real ones (n, C, H, W), normalised, on which paths have to agree with the
            net's class, or none; by default that is not checked.

    Returns:
        Rows with the columns `COLUMNS`. A path that cannot run a point, a wrong output, an error
        and an unsteady machine each give a row with that status and the reason.
    """
    if load is None:
        from bench.surgery import store

        load = store.load
    labels = {"dataset": dataset, "arch": arch}
    setting = Setting(
        dense, tuple(shape), config, labels, load, timer, table.reusable(previous), images
    )
    paths = [kernels.load(path) for path in config.paths]
    others = [point for point in points if (point.run, point.point) != (dense.run, dense.point)]
    rows: list[Row] = []
    for cell in cells(config):
        with machine.pinned(cell.device, cell.threads, cell.dtype):
            trial = Trial(setting, cell)
            baseline = Baseline(trial)
            rows += baseline.rows
            for point in others:
                for path in paths:
                    row, fresh = candidate.row(trial, baseline, point, path)
                    rows.append(row)
                    if fresh and save:
                        save(rows)
    return rows


def cells(config: LatencyConfig) -> list[Cell]:
    """Every condition that the config asks for and this machine has, without duplicates."""
    found: dict[Cell, None] = {}
    for device in config.devices:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "latency.devices asks for cuda and there is no CUDA device; use auto or cpu"
            )
        real = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        # Host threads only launch work on a GPU: one.
        asked = (1,) if real == "cuda" else config.threads
        for threads in asked:
            count = env.cores() if threads == "all" else min(threads, env.cores())
            for dtype in config.dtypes:
                found |= {Cell(real, dtype, batch, count): None for batch in config.batch_sizes}
    return list(found)
