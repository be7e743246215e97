"""A path that has become slower is found; noise, and a machine slower as a whole, are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.speed.regress import noise, regressions


def rows(speedups: dict[str, float], control: float = 1.01, slower: float = 1.0) -> pd.DataFrame:
    """Candidates by path, with intervals of 2 % around, and an A/A pair."""
    place = {
        "dataset": "layers", "arch": "conv", "device_name": "Some CPU", "dtype": "fp32",
        "batch": 1, "threads": 1, "status": "ok", "mode": "eager", "layout": "nchw",
    }  # fmt: skip
    made = [
        place | {"run": "random@0.1", "role": "candidate", "path": path, "speedup": gain,
                 "speedup_low": 0.98 * gain, "speedup_high": 1.02 * gain,
                 "median_ms": slower / gain, "reason": ""}
        for path, gain in speedups.items()
    ]  # fmt: skip
    twin = {"run": "dense", "role": "twin", "path": "dense", "speedup": control,
            "speedup_low": control, "speedup_high": control, "median_ms": slower,
            "reason": ""}  # fmt: skip
    return pd.DataFrame([*made, place | twin])


def test_a_planted_loss_is_found_and_named():
    found = regressions(rows({"csr": 2.0, "bags": 3.0}), rows({"csr": 1.6, "bags": 3.0}))
    assert found["path"].tolist() == ["csr"]
    assert found["lost"].iloc[0] == pytest.approx(0.2)
    assert (found["before"].iloc[0], found["now"].iloc[0]) == (2.0, 1.6)


@pytest.mark.parametrize("control", [1.3, 1 / 1.3])
def test_a_loss_within_what_equal_work_differs_by_is_none(control):
    before = rows({"csr": 2.0}, control)
    assert noise(before) == pytest.approx(0.3)
    assert not len(regressions(before, rows({"csr": 1.6})))
    assert not len(regressions(rows({"csr": 2.0}), rows({"csr": 1.6}, control)))


def test_a_slower_machine_and_a_faster_path_are_no_regressions():
    old = rows({"csr": 2.0})
    assert not len(regressions(old, rows({"csr": 2.0}, slower=3.0)))
    assert not len(regressions(old, rows({"csr": 4.0})))
    with pytest.raises(ValueError, match="no row in common"):
        regressions(old, rows({"bags": 1.0}))


def test_a_path_that_fails_now_is_a_regression_and_a_noisy_machine_is_none():
    old, new = rows({"csr": 2.0, "bags": 3.0}), rows({"csr": 2.0, "bags": 3.0})
    broken = new["path"].eq("bags")
    new.loc[broken, ["status", "reason", "speedup"]] = ["failed", "wrong output", None]
    found = regressions(old, new)
    assert found[["path", "reason"]].to_numpy().tolist() == [["bags", "wrong output"]]
    new.loc[broken, "status"] = "unsteady"
    assert not len(regressions(old, new))


def test_equal_paths_under_noise_are_rarely_called_slower():
    draw, called = np.random.default_rng(0), 0
    for _ in range(60):
        pair = [rows({"csr": 2 * draw.lognormal(0, 0.01)}, draw.lognormal(0, 0.01)) for _ in "ab"]
        called += len(regressions(*pair)) > 0
    assert called <= 3
