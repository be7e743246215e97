"""The latency job of a suite: from records to one table per data set and architecture."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

from bench.latency import machine, table
from bench.latency.agreement import images_of
from bench.latency.config import LatencyConfig
from bench.latency.protocol import Target, measure
from bench.latency.table import Row
from bench.spec import Record, slug


class LatencyError(ValueError):
    """A record that is missing or unusable."""


def run(
    suite_folder: str | Path,
    dataset: str,
    arch: str,
    run_ids: Sequence[str],
    config: LatencyConfig,
    data_root: str | Path | None = None,
) -> Path:
    """Measure every point of `run_ids` and write `latency/<arch>-<dataset>.csv`.

    What is measured is kept at once under `latency/.measured`, by digest, so a killed job goes on
    where it stopped and a grown suite measures only what is new; delete that folder to measure all
    again. The table itself appears whole, at the end. Failed runs have no points and no rows.

    Args:
        suite_folder: `results/<suite>`.
        dataset: name of the data set, as in the specs.
        arch: name of the architecture.
        run_ids: runs of this data set and architecture; one seed is enough. Each is compared to the
        dense
            run that its record names.
        config: what to measure.
        data_root: where the data set is, for the top-1 agreement; none: not checked.

    Returns:
        The table's path.

    Raises:
        LatencyError: a record is missing, of another pair, or names no finished dense run.
    """
    suite = Path(suite_folder)
    name = f"{slug(arch)}-{slug(dataset)}"
    root = Path(data_root) if data_root else None
    work = partial(session, suite, dataset, arch, tuple(run_ids), config, root)
    path = suite / "latency" / f"{name}.csv"
    table.write(path, restarted(work, path, config.restarts))
    return path


def restarted(work: Callable[[Path], list[Row]], path: Path, restarts: int) -> list[Row]:
    """The rows of `work`, called once for each restart with its own cache beside `path`; pooled.

    Several restarts are processes of their own: allocator, autotuning, addresses are drawn anew.
    """
    caches = [path.parent / ".measured" / f"{path.stem}.{index}.csv" for index in range(restarts)]
    if restarts == 1:
        return _flushed(work, caches[0])
    context, parts = multiprocessing.get_context("spawn"), []
    for cache in caches:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            parts.append(process.submit(_flushed, work, cache).result())
    return table.pool(parts)


def _flushed(work: Callable[[Path], list[Row]], cache: Path) -> list[Row]:
    with machine.flushed():
        return work(cache)


def session(
    suite: Path,
    dataset: str,
    arch: str,
    run_ids: Sequence[str],
    config: LatencyConfig,
    root: Path | None,
    cache: Path,
) -> list[Row]:
    """One process's rows; what it measures is kept in `cache`."""
    records = {run: record(suite, run) for run in run_ids}
    for run, found in records.items():
        if (found.spec.arch, found.spec.dataset) != (arch, dataset):
            raise LatencyError(
                f"{run} is {found.spec.arch} on {found.spec.dataset}, not {arch} on {dataset}"
            )
    groups: dict[str, list[Target]] = {}
    for run, found in records.items():
        if found.status == "ok":
            groups.setdefault(found.dense or run, []).extend(targets(suite, found))
    previous = table.read(cache)
    images = lru_cache(partial(images_of, dataset, root)) if root else None
    rows: list[Row] = []
    for dense, points in groups.items():
        base = records.get(dense) or record(suite, dense)
        known = targets(suite, base)
        if not known:
            raise LatencyError(f"{dense} is the dense baseline and has no point; run it again")
        rows += measure(
            points,
            known[-1],
            tuple(base.dataset["shape"]),
            config,
            dataset=dataset,
            arch=arch,
            previous=previous,
            save=partial(keep, cache, previous, tuple(rows)),
            images=images,
        )
    keep(cache, previous, (), rows)
    return rows


def keep(cache: Path, previous: Sequence[Row], done: Sequence[Row], new: Sequence[Row]) -> None:
    """Store `done` and `new` rows, and those `previous` ones that they do not replace."""
    rows = [*done, *new]
    replaced = {table.identity(row) for row in rows}
    table.write(cache, [*rows, *(row for row in previous if table.identity(row) not in replaced)])


def record(suite: Path, run: str) -> Record:
    """The record of a run; `LatencyError` if there is none."""
    path = suite / "runs" / run / "record.json"
    if not path.exists():
        raise LatencyError(f"no record of {run} in {suite.name}/runs; run it before its latency")
    return Record.model_validate(json.loads(path.read_text(encoding="utf-8")))


def targets(suite: Path, found: Record) -> list[Target]:
    """The stored operating points of a run."""
    folder = suite / "runs" / found.id / "points"
    return [
        Target(found.id, point.index, point.digest, folder / str(point.index))
        for point in found.operating_points
    ]
