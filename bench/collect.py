"""All records of a suite -> tidy tables (parquet and CSV), one row per observation.

The columns are explained in `results/README.md`. The same records give the same bytes: rows are
sorted, floats are rounded to ten significant digits, and what depends on the clock or the machine's
load stands in `TIME_COLUMNS`, last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench import fields, tidy
from bench import method as methods
from bench.provenance import origin
from bench.spec import Accuracy, Point, Record, RunSpec

if TYPE_CHECKING:
    import pandas as pd

TIME_COLUMNS = tidy.TIME_COLUMNS


class CollectError(ValueError):
    """Records that cannot stand in one table, or a record that is missing or damaged."""


def collect(suite_folder: Path, runs: Iterable[str] | None = None) -> None:
    """Write `<suite_folder>/tables/<name>.{parquet,csv}` for each name in `tidy.SORT`.

    And for those in `tidy.FIELD_SORT` where a run predicts fields.

    Args:
        suite_folder: the folder with `runs/` and `latency/`.
        runs: ids of the planned runs; others in the folder are ignored. None: every record there.

    Raises:
        CollectError: a record is missing or damaged, protocol versions are mixed, or two runs would
        share a cell.
    """
    import pandas as pd

    records = load(suite_folder / "runs", runs)
    runs_rows, point_rows = run_rows(records), list(points_rows(records))
    latency = tidy.latency(suite_folder / "latency", set(records))
    one_protocol(records, latency)
    no_shared_cell(runs_rows)
    tables = {
        "runs": pd.DataFrame(runs_rows),
        "points": pd.DataFrame(point_rows),
        "layers": tidy.layers(suite_folder / "runs", records),
        "history": tidy.history(suite_folder / "runs", records),
        "latency": latency,
    }
    if any(fields.predicts(record) for record in records.values()):
        tables |= fields.tables(suite_folder, records, tables["points"])
    for name, table in tables.items():
        tidy.write(table, suite_folder / "tables", name)


def load(folder: Path, runs: Iterable[str] | None = None) -> dict[str, Record]:
    """Records by run id, sorted; `CollectError` lists missing ones, or names a damaged file."""
    names = sorted(
        set(runs)
        if runs is not None
        else {file.parent.name for file in folder.glob("*/record.json")}
    )
    missing = [name for name in names if not (folder / name / "record.json").is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise CollectError(
            f"{len(missing)} of {len(names)} planned runs have no record in {folder}: {listed}"
        )
    if not names:
        raise CollectError(f"no records in {folder}: run the suite first")
    records = {}
    for name in names:
        file = folder / name / "record.json"
        try:
            records[name] = Record.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise CollectError(
                f"{file} is not a record: {error.errors()[0]['msg']}; delete it and run again"
            ) from None
        if records[name].id != name:
            raise CollectError(
                f"{file} is the record of {records[name].id}; delete the folder and run again"
            )
    return records


def one_protocol(records: dict[str, Record], latency: pd.DataFrame) -> None:
    """Raise unless all records and latency rows were measured under one version of the protocol."""
    versions = {record.spec.protocol for record in records.values()} | set(
        latency["protocol"].dropna()
    )
    if len(versions) > 1:
        listed = ", ".join(str(version) for version in sorted(versions))
        raise CollectError(
            f"protocol versions {listed} cannot stand in one table; run the older records again"
        )


def no_shared_cell(rows: list[dict[str, Any]]) -> None:
    """Raise when two runs have the same labels and seed: one cell would hold two things."""
    seen: dict[tuple[Any, ...], str] = {}
    for row in rows:
        if row["method"] == "dense":  # dense runs of two recipes are told apart by `recipe`
            continue
        cell = tuple(
            row[key] for key in ("dataset", "arch", "tier", "variant", "target_density", "seed")
        )
        if cell in seen:
            raise CollectError(
                f"{seen[cell]} and {row['run']} are both {cell}; give one of them its own variant"
            )
        seen[cell] = row["run"]


def target_density(spec: RunSpec, records: dict[str, Record]) -> float | None:
    """The density asked of a run: its own parameter, its original's (a control), or the default."""
    if "density" in spec.params:
        asked = spec.params["density"]
        return float(asked) if isinstance(asked, int | float) else None
    if spec.like is not None and spec.like in records:
        return target_density(records[spec.like].spec, records)
    field = methods.load(spec.method).model_fields.get("density")
    return (
        None
        if field is None or field.is_required() or field.default is None
        else float(field.default)
    )


def labels(record: Record, records: dict[str, Record]) -> dict[str, Any]:
    """The columns that say which run a row belongs to."""
    spec = record.spec
    original = records.get(spec.like) if spec.like else None
    return {
        "run": record.id,
        "variant": spec.variant or spec.method,
        "method": spec.method,
        "family": methods.load(spec.method).family,
        "arch": spec.arch,
        "dataset": spec.dataset,
        "tier": spec.tier,
        "seed": spec.seed,
        "like": spec.like,
        "like_variant": (original.spec.variant or original.spec.method) if original else None,
        "target_density": target_density(spec, records),
        "densities": " ".join(f"{density:.10g}" for density in spec.densities) or None,
        "recipe": spec.train.model_dump_json(exclude_defaults=True),
        **({"task": "field"} if fields.predicts(record) else {}),
    }


def run_rows(records: dict[str, Record]) -> list[dict[str, Any]]:
    """One row per run, failed ones included."""
    rows = []
    for record in records.values():
        spec = record.spec
        details = {
            "method_version": spec.method_version,
            "params": json.dumps(spec.params, sort_keys=True),
            "finetune": spec.finetune.model_dump_json(exclude_defaults=True)
            if spec.finetune
            else None,
            "points": len(record.points),
            "epochs": sum(line.epochs for line in record.ledger),
            "samples": sum(line.samples for line in record.ledger),
            "initial": record.initial,
            "licence": record.dataset.get("licence"),
        }
        rows.append(labels(record, records) | details | origin(record))
    return rows


def points_rows(records: dict[str, Record]) -> Iterator[dict[str, Any]]:
    """One row per operating point; a run without any has one row that says why."""
    for record in records.values():
        dense = dense_point(record, records)
        shared, tail = labels(record, records), origin(record)
        samples = {"samples": sum(line.samples for line in record.ledger)}
        for point in record.points:
            yield shared | measured(point, dense) | fields.columns(point, dense) | samples | tail
        if not record.points:
            yield shared | dict.fromkeys(POINT_COLUMNS) | samples | tail


def dense_point(record: Record, records: dict[str, Record]) -> Point | None:
    """The dense model that a run is compared to; itself for a dense run."""
    if record.dense is None:
        return record.points[-1] if record.spec.method == "dense" and record.points else None
    if record.dense not in records:
        raise CollectError(
            f"{record.id} is compared to {record.dense}, which has no record here; run it"
        )
    reference = records[record.dense].points
    return reference[-1] if reference else None


def measured(point: Point, dense: Point | None) -> dict[str, Any]:
    """The columns of one operating point; ratios are dense / pruned, empty without a dense net."""
    test, before = (o if isinstance(o, Accuracy) else None for o in (point.test, point.before))
    return {
        "point": point.index,
        "final": point.final,
        "density": point.density,
        "parameters": point.parameters,
        "nonzeros": point.nonzeros,
        "bits": point.bits,
        **{f"bits_{name}": point.bits_format.get(name) for name in ("dense", "csr", "bitmap")},
        "macs": point.macs,
        "effective_macs": point.effective_macs,
        "bops": point.bops,
        "weight_bits": point.weight_bits,
        "activation_bits": point.activation_bits,
        "compression": dense and ratio(dense.bits, point.bits),
        "parameter_ratio": dense and ratio(dense.parameters, point.nonzeros),
        "theoretical_speedup": dense and ratio(dense.macs, point.effective_macs),
        "bop_reduction": dense and ratio(dense.bops, point.bops),
        "top1": test and test.top1,
        "top5": test and test.top5,
        "loss": point.test.loss,
        "ece": test and test.ece,
        "top1_before": before and before.top1,
        "top1_dense": test and dense and dense.test.score,
        "worst_class_drop": point.worst_class_drop,
        "validation_top1": test and point.validation.score,
        "test_samples": point.test.samples,
        "classes": test and len(test.per_class),
        "epochs": point.epochs,
        "digest": point.digest,
    }


POINT_COLUMNS = (
    "point", "final", "density", "parameters", "nonzeros", "bits", "bits_dense", "bits_csr",
    "bits_bitmap", "macs", "effective_macs", "bops", "weight_bits", "activation_bits",
    "compression", "parameter_ratio", "theoretical_speedup", "bop_reduction", "top1", "top5",
    "loss", "ece", "top1_before", "top1_dense", "worst_class_drop", "validation_top1",
    "test_samples", "classes", "epochs", "digest",
)  # fmt: skip


def ratio(whole: int | None, part: int | None) -> float | None:
    """`whole / part`; None where one is not known, or nothing is left to divide by."""
    return whole / part if whole is not None and part else None
