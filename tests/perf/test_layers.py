"""The layers of a campaign for pytest-benchmark: a group per layer and condition.

    BENCH_CAMPAIGN=cpu pytest -m perf tests/perf/test_layers.py --benchmark-json=layers.json

Each test is a path at a density, or the dense layer; what cannot run is skipped with the reason,
and a wrong output fails. Without `BENCH_CAMPAIGN`: ResNet-8's layers at one density.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
import torch

from bench import kernels
from bench.latency.config import LatencyConfig
from bench.latency.machine import pinned
from bench.latency.protocol import cells
from bench.latency.trial import Setting, Trial
from bench.speed.campaign import Campaign, Subject, find, read, subjects
from bench.speed.roofline import ceilings, floor

pytestmark = pytest.mark.perf
SMALL = Campaign(
    campaign="small",
    image=(3, 32, 32),
    layers={
        "of": ["resnet8"],
        "versions": {"random": [{}]},
        "densities": [0.1],
        "latency": LatencyConfig(
            dtypes=("fp32",),
            batch_sizes=(1,),
            threads=(1,),
            baselines=("onednn", "onnxruntime"),
            paths=("csr", "embedding_bag", "direct"),
        ),
    },
)
ROUNDS = 30


@cache
def layers() -> dict[str, Subject]:
    name = os.environ.get("BENCH_CAMPAIGN")
    found = subjects(read(find(name)) if name else SMALL)
    return {key: one for key, one in found.items() if one.kind == "layers"}


def ways(config: LatencyConfig, label: str) -> tuple[str, ...]:
    """The paths that a version is timed on: the unpruned layer on those that are baselines."""
    if label != "dense":
        return config.paths
    every = dict.fromkeys(("dense", *config.baselines, *config.paths))
    return tuple(name for name in every if kernels.load(name).baseline)


def pytest_generate_tests(metafunc):
    chosen = metafunc.config.getoption("markexpr")
    if "perf" not in chosen or "not perf" in chosen:  # naming them takes seconds
        metafunc.parametrize("case", [])
        return
    cases = [
        (subject, cell, label, path)
        for subject in layers().values()
        for cell in cells(subject.part.latency)
        for label in ("dense", *subject.versions)
        for path in ways(subject.part.latency, label)
    ]
    ids = ["-".join(map(str, [case[0].name, *case[1], *case[2:]])) for case in cases]
    metafunc.parametrize("case", cases, ids=ids)


@cache
def trial(name: str, cell) -> Trial:
    subject = layers()[name]
    config = subject.part.latency
    setting = Setting(
        subject.target("dense"), subject.shape, config, {}, subject.loader(), None, {}
    )
    return Trial(setting, cell)


@cache
def limits(cell):
    return ceilings(cell)


def test_layer(case, benchmark):
    subject, cell, label, name = case
    path = kernels.load(name)
    with pinned(cell.device, cell.threads, cell.dtype):
        here = trial(subject.name, cell)
        model = here.setting.load(subject.target(label).folder)
        able, reason = path.applies(model, here.dense, cell.device, cell.dtype)
        if not able:
            pytest.skip(reason)
        sides, failed = here.admit(model, path, subject.target(label), here.legal(path, model))
        assert sides, failed[0]["reason"]
        wrong = [row["reason"] for row in failed if row["output_error"] is not None]
        assert not wrong
        side, checked = min(sides, key=lambda pair: here.glance(pair[0]))
        kept = sum(int(p.count_nonzero()) for p in model.parameters() if p.dim() > 1)
        density = kept / sum(p.numel() for p in model.parameters() if p.dim() > 1)
        assert subject.layer is not None
        least = floor(subject.layer, cell, density, limits(cell._replace(batch=1)))
        benchmark.group = f"{subject.name}, {' '.join(map(str, cell))}"
        benchmark.extra_info |= {
            **cell._asdict(),
            "layer": subject.name,
            "version": label,
            "path": str(side),
            "density": density,
            "output_error": checked.error,
            "floor_ms": least.ms,
            "bound": least.bound,
        }

        def call():
            side()
            if cell.device == "cuda":
                torch.cuda.synchronize()

        benchmark.extra_info["copies"] = side.copies  # a short graph does the work so many times
        benchmark.pedantic(call, rounds=ROUNDS, warmup_rounds=3)
