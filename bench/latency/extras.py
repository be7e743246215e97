"""What a row says beside its times: cold caches, memory, energy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import env
from bench.latency.config import LatencyConfig
from bench.latency.prepare import Cell, Prepared
from bench.latency.timing import Timer

FLUSH = 256 * 2**20
"""Bytes that are written between two cold calls: four times the largest cache we know."""
COLD_CALLS = 7


def extras(side: Prepared, cell: Cell, config: LatencyConfig, timer: Timer) -> dict[str, Any]:
    """The columns `cold_ms`, `first_ms`, `peak_mb`, `energy_mj`; none where not asked or known."""
    cuda = cell.device == "cuda"
    return {
        "first_ms": side.first_ms,
        "cold_ms": cold(side, cell.device, timer) if config.cold else None,
        "peak_mb": peak(side) if cuda else None,
        "energy_mj": energy(side, cell.batch, config.energy_seconds) if cuda else None,
    }


def cold(side: Prepared, device: str, timer: Timer) -> float | None:
    """Median time of a call, in ms, after all caches were overwritten; none for graphs of copies.

    The later ones of several copies in a graph would be warm.
    """
    if side.copies > 1:
        return None
    waste, times = torch.empty(FLUSH, dtype=torch.int8, device=device), []
    for _ in range(COLD_CALLS):
        flush(waste)
        times += timer(side, 1)
    return float(np.median(times))


def flush(waste: Tensor) -> None:
    """Overwrite what the caches hold."""
    waste.zero_()


def peak(side: Prepared) -> float:
    """Largest memory that torch held during a call on the GPU, in MB, all nets there included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    side()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e6


def energy(side: Prepared, batch: int, seconds: float) -> float | None:
    """Energy of one sample in mJ, from the GPU's counter over so many seconds of calls.

    Nothing is subtracted for idling. The counter moves every 20 to 100 ms, so take seconds. None
    for no seconds, or where the driver has no counter.
    """
    before = env.energy_mj() if seconds > 0 else None
    if before is None:
        return None
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            side()
        torch.cuda.synchronize()
        calls += 10
    after = env.energy_mj()
    assert after is not None
    return (after - before) / (calls * side.copies * batch)
