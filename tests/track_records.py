"""Run folders as the harness leaves them, with made-up numbers, for the tests of tracking."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.spec import Accuracy, Point, Recipe, Record, RunSpec, Spent

ENVIRONMENT = {
    "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
    "device": "cpu",
}
DATASET = {
    "name": "digits",
    "digest": "ab" * 32,
    "licence": "CC BY 4.0",
    "splits": {"train": 1197, "validation": 300, "test": 300},
    "shape": [1, 8, 8],
    "classes": 10,
}
METHODS = {
    "dense": SimpleNamespace(family="baseline", patterns=(), model_fields={}),
    "magnitude": SimpleNamespace(
        family="magnitude",
        patterns=("unstructured", "channel"),
        model_fields={"pattern": SimpleNamespace(default="unstructured")},
    ),
}
"""Stand-ins for the classes that `bench.method.load` finds."""
LAYERS = {"conv1.weight": (16, 1, 3, 3), "fc.weight": (10, 64)}
COLUMNS = (
    *("point", "layer", "shape", "weights", "nonzeros", "density"),
    *("macs", "effective_macs", "bits"),
)


def accuracy(top1: float) -> Accuracy:
    """An accuracy on ten classes."""
    return Accuracy(
        top1=top1, top5=0.99, loss=1 - top1, ece=0.03, per_class=(top1,) * 10, samples=300
    )


def point(index: int, density: float, final: bool) -> Point:
    """An operating point with 1000 weights."""
    return Point(
        index=index,
        final=final,
        density=density,
        parameters=1010,
        nonzeros=int(1000 * density) + 10,
        bits=int(32000 * density),
        bits_format={"dense": 32320, "csr": 40000, "bitmap": int(33000 * density)},
        macs=50000,
        effective_macs=int(50000 * density),
        bops=int(50000 * density) * 1024,
        weight_bits=32,
        activation_bits=32,
        epochs=float(index + 1),
        test=accuracy(0.9 + 0.01 * density),
        before=accuracy(0.4) if index else None,
        validation=accuracy(0.91),
        worst_class_drop=0.05,
        digest=f"{index:064x}",
    )


def record(method: str = "magnitude", seed: int = 0, points: int = 2, **changes: Any) -> Record:
    """The record of a finished run with `points` operating points; `changes` replace its fields."""
    spec = changes.pop("spec", None) or RunSpec(
        method=method,
        params={} if method == "dense" else {"density": 0.1},
        arch="resnet8",
        dataset="digits",
        finetune=Recipe(epochs=points, lr=0.01),
        seed=seed,
        variant=method,
    )
    fields: dict[str, Any] = {
        "id": spec.id,
        "spec": spec,
        "status": "ok",
        "dense": "dense-resnet8-digits-s0-00000000",
        "points": tuple(point(i, 1 / (i + 1), i == points - 1) for i in range(points)),
        "ledger": (
            Spent(phase="prune", seconds=0.25),
            Spent(phase="finetune", epochs=1, samples=1197, seconds=2),
            Spent(phase="finetune", epochs=1, samples=1197, seconds=3),
        ),
        "environment": ENVIRONMENT,
        "dataset": DATASET,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.5,
        "peak_memory": 300_000_000,
    }
    return Record(**fields | changes)


def history(epochs: int, rounds: int = 2) -> list[dict[str, Any]]:
    """Lines of `epochs` fine-tuning epochs, a second each, then `rounds` events for each layer."""
    lines: list[dict[str, Any]] = [
        {
            "event": "epoch",
            "phase": "finetune",
            "epoch": float(epoch),
            "step": 9 * epoch,
            "loss": 2 / epoch,
            "accuracy": 1 - 1 / (epoch + 1),
            "validation": None if epoch == 1 else 0.9,
            "lr": 0.01,
            "seconds": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    events = [
        {"event": "pqi", "round": r, "layer": name, "index": 0.1 * r}
        for r in range(rounds)
        for name in LAYERS
    ]
    return lines + events


def write(suite: Path, entry: Record, epochs: int = 3) -> Path:
    """The folder of the run in `suite`; a failed run has a record and nothing else."""
    folder = suite / "runs" / entry.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(entry.model_dump_json(indent=1))
    if entry.status == "ok":
        (folder / "history.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in history(epochs))
        )
        with (folder / "layers.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(COLUMNS)
            for p in entry.points:
                for name, shape in LAYERS.items():
                    rows.writerow(
                        [p.index, name, "x".join(map(str, shape)), 100, 50, 0.5, 1000, 500, 1600]
                    )
    return folder


def latency(suite: Path, run: str, median: float = 1.5) -> Path:
    """A latency file with one measured and one refused row of `run`, and one of another run."""
    row = {
        "dataset": "digits",
        "arch": "resnet8",
        "run": run,
        "point": 1,
        "path": "masked_dense",
        "mode": "eager",
        "device": "cpu",
        "device_name": "Some CPU @ 2.50GHz",
        "dtype": "fp32",
        "layout": "nchw",
        "batch": 64,
        "threads": 2,
        "n": 30,
        "median_ms": median,
        "speedup": 1.0,
        "status": "ok",
        "reason": "",
    }
    refused = row | {
        "path": "csr",
        "median_ms": "",
        "speedup": "",
        "status": "unsupported",
        "reason": "no conv",
    }
    file = suite / "latency" / "resnet8-digits.csv"
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, row)
        rows.writeheader()
        rows.writerows([row, refused, row | {"run": "another", "median_ms": 9}])
    return file
