"""What the simulator that a net of fields stands for costs on this machine, and how wrong it is."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import data, env
from bench.measure.field import SHOWN
from bench.spec import slug
from bench.tidy import SOLVER

TRAJECTORIES = 5
"""Test trajectories that are timed."""


def run(suite: Path, dataset: str) -> Path:
    """Time the finite elements behind `dataset`, and write `latency/solver/<dataset>.csv`.

    A row for the grid that the frames are computed on, and for each coarser one down to the frames'
    own, since a net is fairly compared to a solver of the same error. The error is against the
    exact solution, the frames counted as a net's are: step k is the frame k after the first two.
    """
    rows = [row(dataset, refine) for refine in range(1, recipe_of(dataset).refine + 1)]
    path = suite / "latency" / "solver" / f"{slug(dataset)}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, SOLVER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
    return path


def recipe_of(dataset: str) -> Any:
    """How the data set's trajectories are computed; `bench.data.DataError` for one of images."""
    from bench.wave.trajectories import RECIPES

    if data.task_of(dataset) != "field":
        raise data.DataError(f"{dataset}: no simulator stands behind a data set of images")
    return RECIPES[dataset]


def row(dataset: str, refine: int) -> dict[str, Any]:
    """One grid: `refine` intervals of it to each between two nodes of a frame."""
    from bench.wave.exact import error
    from bench.wave.trajectories import solver_seconds

    recipe = replace(recipe_of(dataset), refine=refine)
    spent, errors = solver_seconds(recipe, TRAJECTORIES), error(recipe, TRAJECTORIES).mean(axis=0)
    wrong = {"relative_l2" + (f"_{k}" if k > 1 else ""): float(errors[1 + k]) for k in SHOWN}
    return {
        "dataset": dataset,
        "intervals": recipe.intervals,
        "time_steps": spent.steps,
        **wrong,
        "n": spent.count,
        "device_name": env.cpu_name(),
        "threads": 1,
        "frame_ms": 1000 * spent.frame,
        "factorise_ms": 1000 * spent.factorise,
        "assemble_ms": 1000 * spent.assemble,
    }
