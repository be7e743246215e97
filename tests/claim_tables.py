"""Hand-made published suites and claims about them, with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench import tidy
from bench.claims.number import Number
from bench.claims.schema import read
from bench.claims.scorecard import Row, score

PUBLISHED = Path(__file__).parents[1] / "results" / "published"
SEEDS = (0, 1, 2)
GAP = {"kind": "gap", "minus": "b", "above": 0}
BASE = {
    "method": "magnitude", "family": "f", "arch": "lenet5", "dataset": "fashion_mnist",
    "tier": "equal", "recipe": "{}", "point": 0, "final": True, "status": "ok", "classes": 10,
    "test_samples": 10000, "protocol": 1, "provenance": "rerun", "dense": "dense-0",
    "top1_dense": 0.92, "epochs": 1,
}  # fmt: skip
COLUMNS = pd.read_csv(PUBLISHED / "dpp_bits" / "tables" / "points.csv", nrows=0).columns


def run_of(variant: str, seed: int, density: float | None) -> str:
    return f"{variant}-{seed}-{density}"


def runs(variant: str, values: dict[str, Any], density: float | None = 0.1, **more) -> list[dict]:
    """A row of `points` for each seed; each of `values` is one number per seed."""
    return [
        dict.fromkeys(COLUMNS)
        | BASE
        | {"variant": variant, "seed": seed, "run": run_of(variant, seed, density)}
        | {"target_density": density, "density": density or 0.07}
        | {name: numbers[i] for name, numbers in values.items()}
        | more
        for i, seed in enumerate(SEEDS)
    ]


def publish(folder: Path, points: list[dict], name: str = "mine", **tables: list[dict]) -> Path:
    """A folder of published suites with one suite: these rows of its tidy tables."""
    for table_, rows in {"points": points, "runs": points, **tables}.items():
        tidy.write(pd.DataFrame(rows), folder / name / "tables", table_)
    return folder


def history(lines: dict[int, list[dict]], **more) -> list[dict]:
    return [
        {"run": run_of("a", seed, 0.1), "layer": "all"} | more | line
        for seed, own in lines.items()
        for line in own
    ]


def curve_lines(curves: dict[int, list[float]]) -> list[dict]:
    lines = {s: [{"round": r, "pqi": v} for r, v in enumerate(c)] for s, c in curves.items()}
    return history(lines, event="pqi")


def timed(batch: int, speedup: tuple[float, float, float], median: float = 1.0) -> dict:
    mean, low, high = speedup
    return {
        "dataset": "fashion_mnist", "arch": "lenet5", "run": run_of("a", 1, 0.1), "point": 0,
        "role": "candidate", "path": "dense", "mode": "eager", "device": "cpu", "status": "ok",
        "device_name": "Some CPU", "dtype": "fp32", "layout": "nchw", "batch": batch, "threads": 1,
        "median_ms": median, "speedup": mean, "speedup_low": low, "speedup_high": high,
        "energy_mj": None, "reason": None,
    }  # fmt: skip


def entry(folder: Path, *measures: dict, **more) -> tuple:
    """The entries of a claims file with one claim, which these measurements answer."""
    content = {
        "id": "one", "title": "t", "claim": "c", "source": "Some One, 2020", "paper": "p",
        "evidence": "verified", "reported": "1", "measure": list(measures),
    } | more  # fmt: skip
    file = folder / "claims.yaml"
    file.write_text(yaml.safe_dump({"sources": {"magnitude": [content]}}))
    return read(file)


def answer(folder: Path, *measures: dict) -> Row:
    """The scored row of a claim with these measurements of suite `mine` in `folder`."""
    full = [{"suite": "mine", "densities": [0.1], "variant": "a"} | one for one in measures]
    return score(folder, entry(folder, *full))[0]


def numbers(row: Row) -> Number:
    """Of a row with one check."""
    assert len(row.checks) == 1
    return row.checks[0].number
