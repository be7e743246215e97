"""How long a suite will take, from what past runs took."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench.plan import Plan
from bench.run import read
from bench.spec import Record, RunSpec


def epochs(spec: RunSpec) -> float:
    """Epochs that a run of `spec` trains itself."""
    if spec.finetune is None:
        return spec.train.epochs
    from bench.method import load, make

    kind = load(spec.method)
    count = max(1, len(spec.densities))
    if spec.tier == "paper" and kind.iterative:
        count = getattr(make(spec.method, spec.params), "rounds", 20)
    from_untrained = kind.start != "dense" and spec.tier == "equal"
    return spec.finetune.epochs * count + (spec.train.epochs if from_untrained else 0)


def rates(records: list[Record]) -> dict[tuple[str, ...], list[float]]:
    """Seconds per epoch of past runs.

    By (method, arch, data set), by (arch, data set) and by (data set).
    """
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in records:
        count = epochs(record.spec)
        if record.status == "ok" and count > 0:
            s = record.spec
            for key in ((s.method, s.arch, s.dataset), (s.arch, s.dataset), (s.dataset,)):
                found[key].append(record.seconds / count)
    return found


def report(plan: Plan, results: Path, cores: int | None) -> str:
    """Predicted time of what `plan` has not done yet, by pair.

    Pairs without a past run of any kind are named.
    """
    records = [read(file.parent) for file in sorted(results.glob("*/runs/*/record.json"))]
    known = rates(records)
    done = {r.id for r in records if (results / plan.config.suite / "runs" / r.id).exists()}
    cores = cores or os.cpu_count() or 1
    seconds: dict[str, float] = defaultdict(float)
    counted: dict[str, int] = defaultdict(int)
    blind: dict[str, int] = defaultdict(int)
    for run, spec in plan.runs.items():
        if run in done:
            continue
        pair = f"{spec.arch} on {spec.dataset}"
        keys = ((spec.method, spec.arch, spec.dataset), (spec.arch, spec.dataset), (spec.dataset,))
        rate = next((median(known[key]) for key in keys if key in known), None)
        if rate is None:
            blind[pair] += 1
        else:
            seconds[pair] += rate * epochs(spec)
            counted[pair] += 1
    lines = [
        f"suite {plan.config.suite}: {len(plan.runs)} runs, "
        f"{len(done & set(plan.runs))} of them done"
    ]
    for pair in sorted(seconds):
        lines.append(f"  {pair}: {counted[pair]} runs, {seconds[pair] / 3600:.2f} process-hours")
    for pair, count in sorted(blind.items()):
        lines.append(
            f"  {pair}: {count} runs, unknown: no past run on this data set; "
            "do one to learn its speed"
        )
    total = sum(seconds.values())
    lines.append(
        f"predicted: {total / 3600:.2f} process-hours, "
        f"{total / cores / 60:.0f} minutes on {cores} processes"
    )
    return "\n".join(lines)
