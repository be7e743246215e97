"""A pruned net on a path: its fastest variant against the best way to run the unpruned net."""

from __future__ import annotations

from bench.kernels import Kernel
from bench.latency import statistics
from bench.latency.baseline import Baseline
from bench.latency.table import Row
from bench.latency.trial import Target, Trial


def row(trial: Trial, baseline: Baseline, target: Target, path: Kernel) -> tuple[Row, bool]:
    """The row of one point on one path, and whether it was measured now."""
    for known in trial.earlier(target, path.name) if baseline.earlier else []:
        if known["against"] == baseline.name:
            return known, False
    try:
        return measured(trial, baseline, target, path)
    except Exception as error:  # an error of one point must not take the others' rows with it
        return trial.failed(target, path.name, error), True


def measured(trial: Trial, baseline: Baseline, target: Target, path: Kernel) -> tuple[Row, bool]:
    """As `row`, measured now where the path runs the point."""
    model = trial.setting.load(target.folder)
    applies, reason = path.applies(model, trial.dense, trial.cell.device, trial.cell.dtype)
    if not applies:
        return trial.blank(target, path.name, status="unsupported", reason=reason), False
    if baseline.best is None:
        reason = "no variant of the dense net ran in this cell"
        return trial.blank(target, path.name, status="failed", reason=reason), False
    able, failed = trial.admit(model, path, target, trial.legal(path, model))
    wrong = next((row for row in failed if row["output_error"] is not None), None)
    if wrong or not able:
        return wrong or failed[0], True
    side, checked = min(able, key=lambda pair: trial.glance(pair[0]))
    contest = trial.compete([baseline.best, side]).complaining(baseline.complaint)
    speed = statistics.speedup(contest.times[0], contest.times[1])
    row = trial.result(target, side, checked, contest, 1, speed, str(baseline.best))
    skipped = [f"{row['mode']}/{row['layout']} failed: {row['reason']}" for row in failed]
    row["reason"] = "; ".join(filter(None, (row["reason"], *skipped)))
    return row, True
