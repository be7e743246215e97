"""Measure the subjects of a campaign: one latency table each, and the machine's ceilings."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from bench import kernels
from bench.env import environment
from bench.latency import job, machine, table
from bench.latency.prepare import Cell, inputs
from bench.latency.protocol import cells, measure
from bench.latency.table import Row
from bench.measure import cost
from bench.speed.campaign import Campaign, Subject, find, read, subjects
from bench.speed.diagnosis import diagnose, sentence, unpruned
from bench.speed.figures import draw
from bench.speed.roofline import Ceilings, ceilings, floor
from bench.speed.table import write
from bench.suite import ConfigError
from bench.surgery.allocation import AllocationError
from bench.surgery.patterns import PatternError
from bench.surgery.probe import SurgeryError

Load = Callable[[Path], nn.Module]
ZEROS = 0.98
"""A net that multiplies less than this of its stored weights has zeros among them."""
COUNTED = ("density", "macs", "effective_macs", "bits")


def run(name: str, results: Path, step: str | None, subject: str | None) -> Iterator[str]:
    """Do a campaign, or one `step` of it (see the command line); yields what to tell.

    Raises `ConfigError` for an unknown campaign or subject.
    """
    with machine.flushed():
        yield from _run(name, results, step, subject)


def _run(name: str, results: Path, step: str | None, subject: str | None) -> Iterator[str]:
    campaign = read(find(name))
    folder, every = results / campaign.campaign, subjects(campaign)
    if step == "subject" and subject not in every:
        raise ConfigError(f"no subject {subject!r} in campaign {name}; --step list shows them")
    if step == "list":
        yield from every
    if step in (None, "ceilings"):
        yield str(limits(campaign, folder))
    for one in every if step is None else [str(subject)] if step == "subject" else []:
        yield str(measured(campaign, one, folder))
    if step in (None, "tables"):
        yield from map(str, [*write(folder), *draw(folder)])


def measured(campaign: Campaign, name: str, folder: Path) -> Path:
    """Time the subject `name`, every version on every path; write `latency/<name>.csv`.

    And count its versions. As in a suite (`bench.latency.job`), a killed call goes on where it was.
    """
    subject = subjects(campaign)[name]
    path = folder / "latency" / f"{name}.csv"
    load = subject.loader()  # versions are made once for what is counted and explained
    facts(subject, load, folder)
    work = partial(session, campaign, name)
    rows = job.restarted(work, path, subject.part.latency.restarts)
    if subject.kind == "nets":
        explain(subject, load, rows, folder)
    table.write(path, rows)
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


def facts(subject: Subject, load: Load, folder: Path) -> Path:
    """Count every version of a subject, and the floors of a layer; write `versions/<name>.csv`.

    A row per version and condition. Needs `ceilings.csv` (see `limits`). Versions that cannot be
    made have no row: the latency table has the reason.
    """
    known, dense = ceilings_of(folder), load(Path("dense"))
    rows: list[dict[str, Any]] = []
    for label in ("dense", *subject.versions):
        try:
            counted = cost(load(Path(label)), dense, subject.shape, 0)[0]
        except (PatternError, SurgeryError, AllocationError):
            continue
        row = {"run": label} | {name: counted[name] for name in COUNTED}
        for cell in cells(subject.part.latency):
            limit = known[cell.device, cell.dtype, cell.threads]
            least = subject.layer and floor(subject.layer, cell, counted["density"], limit)
            rows.append(
                row
                | cell._asdict()
                | {"floor_ms": least and least.ms, "bound": least and least.bound}
            )
    return _write(folder / "versions" / f"{subject.file}.csv", rows)


def explain(subject: Subject, load: Load, rows: list[Row], folder: Path) -> None:
    """Write `diagnosis/<subject>.csv`: the layers of each version on each path.

    And `reasons/<subject>.csv`: per row the share of multiply-adds in layers that exploit what is
    gone, and a sentence where it reaches less than half of its theory.
    """
    known, dense, left = ceilings_of(folder), load(Path("dense")), theories(subject, folder)
    before: dict[tuple[Cell, str], dict[str, float]] = {}
    diagnosed, reasons = [], []
    for row in rows:
        if row["role"] != "candidate" or row["status"] != "ok":
            continue
        label = {name: row[name] for name in ("run", "path", *Cell._fields)}
        path, layout = kernels.load(row["path"]), row["layout"]
        cell = Cell(*(row[name] for name in Cell._fields))
        theory, zeros = left[row["run"]]
        short = row["speedup"] < theory / 2
        if not path.zeros and zeros:
            said = f"{path.name} multiplies zeros like any number" if short else ""
            reasons.append(label | {"exploited": 0.0, "why": said})
            continue
        if path.name == "onnxruntime":  # it has no layers that torch could time
            continue
        with machine.pinned(cell.device, cell.threads, cell.dtype):
            x = inputs(subject.shape, cell)
            if (cell, layout) not in before:
                before[cell, layout] = unpruned(dense, cell, layout, x)
            found = diagnose(
                dense, load(Path(row["run"])), path, cell, layout, x,
                known[cell.device, cell.dtype, cell.threads], before[cell, layout],
            )  # fmt: skip
        diagnosed += [label | asdict(layer) for layer in found.layers]
        said = sentence(found, row["speedup"] * row["median_ms"]) if short else ""
        used = sum(layer.share for layer in found.layers if layer.exploits)
        reasons.append(label | {"exploited": used, "why": said})
    for kind, own in (("diagnosis", diagnosed), ("reasons", reasons)):
        path_of = folder / kind / f"{subject.file}.csv"
        path_of.unlink(missing_ok=True)
        if own:
            _write(path_of, own)


def theories(subject: Subject, folder: Path) -> dict[str, tuple[float, bool]]:
    """Per version: multiply-adds of the dense net over those left, and whether zeros are stored."""
    with (folder / "versions" / f"{subject.file}.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["run"]: row for row in csv.DictReader(stream)}
    whole = float(rows["dense"]["macs"])
    return {
        run: (
            whole / float(row["effective_macs"]),
            float(row["effective_macs"]) < ZEROS * float(row["macs"]),
        )
        for run, row in rows.items()
    }


def ceilings_of(folder: Path) -> dict[tuple[str, str, int], Ceilings]:
    """What `limits` wrote, by device, dtype and threads."""
    with (folder / "ceilings.csv").open(newline="", encoding="utf-8") as stream:
        return {
            (row["device"], row["dtype"], int(row["threads"])): Ceilings(
                float(row["flops"]), float(row["bandwidth"])
            )
            for row in csv.DictReader(stream)
        }


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: table.shown(value) for key, value in row.items()} for row in rows)
    return path


def limits(campaign: Campaign, folder: Path) -> Path:
    """Measure the ceilings of every device, dtype and thread count; write `ceilings.csv`.

    And `environment.json`: what this machine is, with which versions; `campaign.json`: the config.
    """
    found: dict[tuple[str, str, int], Ceilings] = {}
    for part in filter(None, (campaign.layers, campaign.nets)):
        for cell in cells(part.latency):
            key = (cell.device, cell.dtype, cell.threads)
            if key not in found:
                with machine.pinned(cell.device, cell.threads, cell.dtype):
                    found[key] = ceilings(cell)
    path = folder / "environment.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(environment(), indent=1) + "\n")
    said = campaign.model_dump_json(indent=1, exclude_none=True)
    (folder / "campaign.json").write_text(said + "\n")
    names = ("device", "dtype", "threads")
    rows = [dict(zip(names, key, strict=True)) | asdict(own) for key, own in found.items()]
    return _write(folder / "ceilings.csv", rows)
