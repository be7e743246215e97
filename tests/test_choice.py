"""What to deploy: nobody on the front is beaten, nobody off it is not; the margin is honest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.tables import choice


def table(seed: int = 0, rows: int = 40, lower: bool = False) -> pd.DataFrame:
    """Rows of a comparison with random scores and times; the first is the dense net."""
    draw = np.random.default_rng(seed)
    score = draw.uniform(0.8, 0.95, rows)
    stem = "relative_l2" if lower else "top1"
    return pd.DataFrame({
        "block": ["dense", *["method"] * (rows - 2), "control"],
        "variant": [f"v{i}" for i in range(rows)],
        "target_density": 0.1,
        stem: score,
        f"{stem}_half": 0.005,
        "delta_dense": score - score[0],
        "delta_dense_half": draw.uniform(0, 0.01, rows),
        "latency_ms": np.where(draw.random(rows) < 0.2, np.nan, draw.uniform(1, 9, rows)),
        "measured_speedup": draw.uniform(0.5, 5, rows), "speedup_low": 0.9, "speedup_high": 1.1,
        "latency_path": "dense (eager, nchw)", "latency_setting": "Some CPU",
    })  # fmt: skip


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_beats(seed, lower):
    rows = table(seed, lower=lower)
    timed = rows[rows["latency_ms"].notna() & rows["block"].ne("control")]
    score = timed["relative_l2"] * -1 if lower else timed["top1"]
    fast = timed["measured_speedup"]
    unbeaten = {i for i in fast.index if not ((score > score[i]) & (fast >= fast[i])).any()}
    found = choice.front(rows)
    assert set(found.index) == unbeaten
    assert found["measured_speedup"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("delta", "half", "lower", "verdict"),
    [
        (-0.004, 0.005, False, "yes"),
        (-0.008, 0.005, False, "mean"),  # its interval reaches beyond a point
        (-0.011, 0.0001, False, "no"),
        (0.02, 0.005, False, "yes"),
        (0.02, 0.005, True, "no"),  # an error that has grown
        (-0.02, 0.005, True, "yes"),
        (-0.004, float("nan"), False, "mean"),  # one seed has no interval
    ],
)
def test_within_a_point_is_said_of_the_whole_interval_or_of_the_mean(delta, half, lower, verdict):
    row = {"block": "method", "delta_dense": delta, "delta_dense_half": half}
    assert choice.standing(row, lower) == verdict
    assert choice.standing(row | {"block": "dense"}, lower) not in ("yes", "mean", "no")


def test_nothing_timed_is_no_block():
    rows = table()
    assert choice.blocks("here", rows)
    assert choice.blocks("here", rows.assign(latency_ms=float("nan"))) == []
