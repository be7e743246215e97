"""What a run shows in MLflow: tags, params, metrics and tables, as pure functions of its files.

Imports no MLflow: `store` writes what this module says. Names of metrics:

- `<phase>/<key>`: training curves (`finetune/loss`, `finetune/validation`); step = the run's epoch,
  rounded (`<phase>/epoch` is exact).
- `test_top1`, `density`, `effective_macs`, ...: the operating points; step = index of the point.
  Of a field `test_relative_l2` in the place of `test_top1`, and `test_relative_l2/10_steps`.
- `<event>/<key>[/<layer>]`: what the method noted; step = its round (else epoch, else a count).
- `latency/<machine>/<path>-<mode>-<dtype>-<layout>-b<batch>-t<threads>/<key>`: step = index of the
  point.
- `ledger/<phase>/<key>`, `seconds`, `peak_memory`: what the run cost.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from bench import method
from bench.spec import FieldError, Point, Record, RunSpec, slug
from bench.track.source import Source, TrackError

RUN, DIGEST, SUITE = "run_id_bench", "record_digest", "suite"
"""Tags that identify a mirrored run: its id, the digest of its files, the suite's folder name."""
SHOWN = (1, 5, 10, 20)
"""Steps of a rolled-out prediction whose errors are metrics."""
VALUE_LIMIT = 500
"""Characters of a param or tag: the least that MLflow's servers allow; `record.json` has all."""
DATASET_DIGEST_LIMIT = 36
LATENCY = (
    "median_ms",
    "p5_ms",
    "p95_ms",
    "speedup",
    "speedup_low",
    "speedup_high",
    "output_error",
    "top1_agreement",
    "power_w",
)

Sample = tuple[str, float, int, int]
"""A metric: key, value, time (ms since 1970), step."""


def tags(record: Record, suite: str) -> dict[str, str]:
    """What runs are filtered and grouped by; without the digest, which marks a complete mirror."""
    spec = record.spec
    commit = (record.environment.get("git") or {}).get("commit")
    every = {
        RUN: record.id,
        SUITE: suite,
        "method": spec.method,
        "family": _family(spec.method),
        "variant": spec.variant or spec.method,
        "pattern": method.pattern(spec.method, dict(spec.params)),
        "seed": str(spec.seed),
        "tier": spec.tier,
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "python -m bench run",
        "mlflow.source.type": "LOCAL",
        "device": record.environment.get("device"),
        "protocol": str(spec.protocol),
        "status": record.status,
        "reason": record.reason,
        "mlflow.note.content": record.reason,
        "provenance": "rerun",
        "dense": record.dense,
        "like": spec.like,
    }
    return {key: _short(value) for key, value in every.items() if value}


def params(spec: RunSpec) -> dict[str, str]:
    """The spec, flattened (`params.density`, `train.lr`); a long value is cut and says so."""
    return {key: _short(value) for key, value in _flat("", spec.model_dump(mode="json")) if value}


def dataset(record: Record) -> dict[str, str]:
    """Fields of MLflow's data set entity; it holds 36 characters of the digest, its profile all."""
    known = record.dataset
    name = str(known.get("name", record.spec.dataset))
    return {
        "name": name,
        "digest": str(known.get("digest", ""))[:DATASET_DIGEST_LIMIT],
        "source_type": "bench",
        "source": json.dumps({"name": name}),
        "profile": json.dumps(known, sort_keys=True),
    }


def metrics(source: Source) -> list[Sample]:
    """Every number of the run that has a step."""
    record = source.record
    end = ended(record)
    samples = [*_history(source)]
    for point in record.points:
        samples += [(key, value, end, point.index) for key, value in _point(point)]
    for row in source.latency:
        samples += [(key, value, end, int(row["point"])) for key, value in _latency(row)]
    samples += [(key, value, end, 0) for key, value in _cost(record)]
    return samples


def started(record: Record) -> int:
    """Start of the run, ms since 1970; a time without a zone is UTC."""
    try:
        start = datetime.fromisoformat(record.started)
    except ValueError:
        wrong = f"record of {record.id}: started = {record.started!r} is no ISO 8601 time"
        raise TrackError(f"{wrong}; run it again") from None
    return round((start if start.tzinfo else start.replace(tzinfo=UTC)).timestamp() * 1000)


def ended(record: Record) -> int:
    """End of the run, ms since 1970."""
    return started(record) + round(record.seconds * 1000)


def _history(source: Source) -> Iterator[Sample]:
    """Curves and events, each stamped with the training time that had passed."""
    now = float(started(source.record))
    seen: Counter[tuple[str, str]] = Counter()
    for line in source.history:
        event, layer = line["event"], str(line.get("layer", ""))
        if event == "epoch":
            now += 1000 * line["seconds"]
            prefix, step, skip = line["phase"], line["epoch"], {"step"}
        else:
            count = seen[event, layer]
            seen[event, layer] += 1
            prefix, skip = event, {"round", "epoch", "layer"}
            step = line.get("round", line.get("epoch", count))
        for key, value in line.items():
            if key not in skip and isinstance(value, int | float):
                yield _name(prefix, key, layer), float(value), round(now), round(step)


def _point(point: Point) -> Iterator[tuple[str, float]]:
    splits = {"test": point.test, "before": point.before, "validation": point.validation}
    plain = point.model_dump(exclude={*splits, "index", "final", "digest"})
    measured = {
        f"{split}_{key}": value
        for split, accuracy in splits.items()
        if accuracy is not None
        for key, value in accuracy.model_dump(exclude={"per_class", "samples", "rollout"}).items()
    }
    if isinstance(point.test, FieldError):
        steps = dict(enumerate(point.test.rollout, 1))
        # MLflow's stores take no infinity
        shown = {k: steps[k] for k in SHOWN if math.isfinite(steps.get(k, math.inf))}
        measured |= {f"test_relative_l2/{step}_steps": error for step, error in shown.items()}
    for key, value in [*plain.items(), *measured.items()]:
        if isinstance(value, dict):
            yield from ((_name(key, part), float(number)) for part, number in value.items())
        elif value is not None:
            yield key, float(value)


def _latency(row: dict[str, str]) -> Iterator[tuple[str, float]]:
    if row.get("role") == "control":
        return
    setting = "-".join(row[key] for key in ("path", "mode", "dtype", "layout"))
    setting += f"-b{row['batch']}-t{row['threads']}"
    machine = slug(row["device_name"] or row["device"])
    for key in LATENCY:
        if row.get(key):
            yield _name("latency", machine, setting, key), float(row[key])


def _cost(record: Record) -> Iterator[tuple[str, float]]:
    yield "seconds", record.seconds
    yield "peak_memory", float(record.peak_memory)
    total: Counter[str] = Counter()
    for line in record.ledger:
        for key in ("epochs", "samples", "seconds"):
            total[_name("ledger", line.phase, key)] += getattr(line, key)
    yield from ((key, float(value)) for key, value in total.items())


def _family(name: str) -> str:
    """The method's family, as its file says."""
    try:
        return method.load(name).family
    except method.MethodError:
        return "(method file is gone)"


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    note = "... (whole in record.json)"
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - len(note)] + note


def _name(*parts: str) -> str:
    """A metric's name; characters that MLflow does not allow in one become a dot."""
    return "/".join(re.sub(r"[^\w.\- :]+", ".", part) for part in parts if part)
