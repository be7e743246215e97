"""Measure the subjects of a campaign: one latency table each, and the machine's ceilings."""

from __future__ import annotations

import csv
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.latency import job, machine, table
from bench.latency.protocol import cells, measure
from bench.latency.table import Row
from bench.speed.campaign import Campaign, subjects
from bench.speed.roofline import ceilings

CEILINGS = ("device", "dtype", "threads", "flops", "bandwidth")


def run(campaign: Campaign, name: str, folder: Path) -> Path:
    """Time the subject `name`, every version on every path; write `latency/<name>.csv`.

    As in a suite (`bench.latency.job`), a killed call goes on where it was.
    """
    config = subjects(campaign)[name].part.latency
    path = folder / "latency" / f"{name}.csv"
    table.write(path, job.restarted(partial(session, campaign, name), path, config.restarts))
    return path


def session(campaign: Campaign, name: str, cache: Path) -> list[Row]:
    """One process's rows."""
    subject = subjects(campaign)[name]
    previous = table.read(cache)
    rows = measure(
        [subject.target(label) for label in subject.versions],
        subject.target("dense"),
        subject.shape,
        subject.part.latency,
        dataset=subject.kind,
        arch=subject.name,
        previous=previous,
        save=partial(job.keep, cache, previous, ()),
        load=subject.loader(),
    )
    job.keep(cache, previous, (), rows)
    return rows


def limits(campaign: Campaign, folder: Path) -> Path:
    """Measure the ceilings of every device, dtype and thread count; write `ceilings.csv`."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for part in filter(None, (campaign.layers, campaign.nets)):
        for cell in cells(part.latency):
            key = (cell.device, cell.dtype, cell.threads)
            if key not in found:
                with machine.pinned(cell.device, cell.threads):
                    found[key] = list(asdict(ceilings(cell)).values())
    path = folder / "ceilings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CEILINGS)
        writer.writerows([*key, *(f"{value:.6g}" for value in own)] for key, own in found.items())
    return path
