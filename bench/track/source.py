"""The files of a suite's runs, read for tracking: records, histories, layers, latency rows."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.spec import Record


class TrackError(ValueError):
    """A suite, a record or a store that cannot be mirrored."""


@dataclass(frozen=True)
class Source:
    """The files of one run, read and parsed; `digest` covers all of them."""

    record: Record
    text: str
    history: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, str], ...]
    latency: tuple[dict[str, str], ...]
    digest: str

    @classmethod
    def read(cls, folder: Path, latency: Iterable[dict[str, str]]) -> Source:
        """The run in `folder` and its `latency` rows; `TrackError` names a missing, broken file."""
        file = folder / "record.json"
        text = file.read_text()
        try:
            record = Record.model_validate_json(text)
        except ValidationError as error:
            raise TrackError(f"{file} is no record; run {folder.name} again: {error}") from None
        if record.id != folder.name:
            raise TrackError(f"{file} is the record of {record.id}; move it back or delete it")
        history = _optional(folder / "history.jsonl", record)
        layers = _optional(folder / "layers.csv", record)
        rows = tuple(latency)
        whole = json.dumps([text, history, layers, rows])
        return cls(
            record=record,
            text=text,
            history=tuple(_lines(folder / "history.jsonl", history)),
            layers=tuple(csv.DictReader(layers.splitlines())),
            latency=rows,
            digest=hashlib.sha256(whole.encode()).hexdigest(),
        )

    def tables(self) -> dict[str, dict[str, list[Any]]]:
        """Tables by name, each a mapping from column to values; an empty table is left out."""
        rows = {"layers": self.layers, "latency": self.latency}
        return {
            name: {column: [_cell(row[column]) for row in table] for column in table[0]}
            for name, table in rows.items()
            if table
        }


def finished(suite: Path, runs: Iterable[str] | None) -> list[Path]:
    """The folders of the runs that have a record; `TrackError` if an id in `runs` has none."""
    if not (suite / "runs").is_dir():
        raise TrackError(
            f"{suite} holds no runs; give a suite's folder, results/<suite>, after its runs"
        )
    if runs is None:
        return sorted(file.parent for file in suite.glob("runs/*/record.json"))
    folders = [suite / "runs" / run for run in sorted(set(runs))]
    absent = [folder.name for folder in folders if not (folder / "record.json").is_file()]
    if absent:
        raise TrackError(f"{suite}: no record of {', '.join(absent)}; run them first")
    return folders


def latency_rows(suite: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of every `latency/*.csv`, by the id of the run that they measure."""
    found: dict[str, list[dict[str, str]]] = {}
    for file in sorted(suite.glob("latency/*.csv")):
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                found.setdefault(row["run"], []).append(row)
    return found


def _cell(text: str) -> int | float | str | None:
    """A CSV cell as the number that it spells; empty is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def _optional(file: Path, record: Record) -> str:
    """The text of `file`; a failed run may have ended before it wrote it."""
    if file.is_file():
        return file.read_text()
    if record.status == "ok":
        raise TrackError(f"{file} is missing although its run is ok; run {record.id} again")
    return ""


def _lines(file: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            run = file.parent.name
            raise TrackError(
                f"{file}, line {number} is no JSON: {error}; run {run} again"
            ) from None
