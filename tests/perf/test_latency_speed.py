"""Timing of the harness; `pytest -m perf tests/perf --benchmark-autosave` keeps a history."""

from __future__ import annotations

import pytest
import torch

from bench import env
from bench.latency import measure
from bench.latency.machine import pinned

from ..latency_fakes import CONFIG, DENSE, MASKED, SHAPE, Clock, Shelf, convnet, scripted

pytestmark = pytest.mark.perf


@pytest.fixture
def stated(benchmark):
    """The benchmark with the machine's state, before and after, stored beside its numbers."""
    benchmark.extra_info["environment"] = env.environment()
    benchmark.extra_info["before"] = env.clocks()
    yield benchmark
    benchmark.extra_info["after"] = env.clocks()


def test_forward_pass_of_a_small_net(stated):
    net, x = convnet(), torch.randn(32, *SHAPE)
    with pinned("cpu", 1):
        stated(net, x)


def test_overhead_of_a_row_beside_its_timed_calls(stated):
    # The clock is scripted, so what remains is folding, the gate, statistics and book-keeping.
    rows = stated(
        lambda: measure([MASKED], DENSE, SHAPE, CONFIG, timer=Clock(scripted), load=Shelf())
    )
    assert len(rows) == 4
