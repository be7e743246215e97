"""Tidy tables on disk: types, order of rows, and files that depend on nothing but their content."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.latency.table import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

TIME_COLUMNS = (
    "seconds_pretrain", "seconds_score", "seconds_prune", "seconds_finetune", "seconds",
    "peak_memory", "started",
)  # fmt: skip
"""Columns that differ between two executions of the same specs; they stand last in a table."""

SORT = {
    "runs": ["dataset", "arch", "variant", "run"],
    "points": ["dataset", "arch", "variant", "run", "point"],
    "layers": ["run", "point"],
    "history": ["run"],
    "latency": ["dataset", "arch", "device", "dtype", "batch", "run", "point", "role",
                "path", "mode", "layout"],
}  # fmt: skip
"""The tables and the columns that order their rows; ties keep the order of the source file."""

FIELD_SORT = {
    "rollout": ["run", "point", "step"],
    "fields": ["dataset", "arch", "run", "point", "what", "step"],
    "solver": ["dataset", "intervals"],
}
"""Further tables, of suites with a task that predicts fields."""

TYPES = {
    "string": "run variant method family arch dataset tier like like_variant densities params "
    "recipe finetune status reason digest dense initial dataset_digest licence device torch "
    "git_commit provenance started layer shape event phase role path mode device_name dtype layout "
    "against throttle library settings task what values",
    "Int64": "seed point points parameters nonzeros bits bits_dense bits_csr bits_bitmap macs "
    "effective_macs bops samples test_samples classes protocol method_version peak_memory weights "
    "step batch threads n restarts round height width intervals",
    "boolean": "final",
}
"""Type of each fixed column; what is not named is a float64."""

DTYPES = {column: dtype for dtype, columns in TYPES.items() for column in columns.split()}

LAYERS = (
    "run", "point", "layer", "shape", "weights", "nonzeros", "density", "macs", "effective_macs",
    "bits", "weight_bits", "activation_bits", "bops",
)  # fmt: skip
LATER = {
    "weight_bits", "activation_bits", "bops", "role", "against", "cold_ms", "first_ms", "peak_mb",
    "energy_mj", "library", "settings", "restarts", "top1_agreement",
}  # fmt: skip
"""Columns that files from before they were measured lack."""
HISTORY = (
    "run", "event", "phase", "epoch", "step", "round", "layer", "loss", "accuracy", "validation",
    "lr",
)  # fmt: skip
FIELDS = ("what", "step", "height", "width", "values")
SOLVER = (
    "dataset", "intervals", "time_steps", "relative_l2", "relative_l2_5", "relative_l2_10",
    "relative_l2_20", "n", "device_name", "threads", "frame_ms", "factorise_ms", "assemble_ms",
)  # fmt: skip


class TidyError(ValueError):
    """A table or a run's file that is missing or does not have the columns it must have."""


def layers(folder: Path, runs: Iterable[str]) -> pd.DataFrame:
    """`<folder>/<run>/layers.csv` of all runs in one table; one that failed early may have none."""
    return csv_table([(run, folder / run / "layers.csv") for run in runs], LAYERS)


def latency(folder: Path, runs: set[str]) -> pd.DataFrame:
    """All measurements in `<folder>/*.csv` whose run is among `runs`."""
    table = csv_table([(None, file) for file in sorted(folder.glob("*.csv"))], COLUMNS)
    return table[table["run"].isin(sorted(runs))]


def csv_table(files: list[tuple[str | None, Path]], columns: tuple[str, ...]) -> pd.DataFrame:
    """The CSV files that exist, stacked, with typed `columns`; `TidyError` where one is lacking."""
    import pandas as pd

    tables = [typed(pd.DataFrame(columns=list(columns)))]
    for run, file in files:
        if not file.is_file():
            continue
        table = read_csv(file)
        if run is not None:
            table["run"] = run
        table = completed(table, columns)
        missing = [column for column in columns if column not in table]
        if missing:
            raise TidyError(
                f"{file} has no column {', '.join(missing)}; delete it and measure again"
            )
        if len(table):
            tables.append(typed(table[list(columns)]))
    return tables[0] if len(tables) == 1 else pd.concat(tables[1:], ignore_index=True)


def history(folder: Path, runs: Iterable[str]) -> pd.DataFrame:
    """Every line of `<folder>/<run>/history.jsonl`: fixed columns, then those of own events."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for run in runs:
        file = folder / run / "history.jsonl"
        lines = file.read_text().splitlines() if file.is_file() else []
        rows.extend({"run": run} | json.loads(line) for line in lines if line.strip())
    own = sorted({key for row in rows for key in row} - set(HISTORY) - {"seconds"})
    table = pd.DataFrame(rows, columns=[*HISTORY, *own, "seconds"])
    for column in own:
        table[column] = numbers_or_text(table[column])
    return table


def numbers_or_text(column: pd.Series) -> pd.Series:
    """A column of numbers as float64; one that holds anything else as JSON text."""
    import pandas as pd

    present = column.dropna()
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
        return column.astype("float64")
    texts = [None if value is None or value != value else json.dumps(value) for value in column]
    return pd.Series(texts, index=column.index, dtype="string")


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each fixed column in its type and floats rounded to ten significant digits."""
    table = table.copy()
    for column in table.columns:
        dtype = DTYPES.get(column)
        if dtype is None and str(table[column].dtype) in ("object", "int64"):
            dtype = "float64"
        if dtype is not None:
            table[column] = table[column].astype(dtype)
        if str(table[column].dtype) == "float64":
            table[column] = [float(f"{value:.10g}") for value in table[column]]
            table[column] = table[column].astype("float64")
    return table


def write(table: pd.DataFrame, folder: Path, name: str) -> None:
    """Sort, type and write `<folder>/<name>.parquet` and `.csv`, each whole or not at all."""
    table = (
        typed(table)
        .sort_values((SORT | FIELD_SORT)[name], kind="stable", na_position="first")
        .reset_index(drop=True)
    )
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("parquet", "csv"):
        temporary = folder / f".{name}.{suffix}.{os.getpid()}"
        if suffix == "parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
        temporary.replace(folder / f"{name}.{suffix}")


def read(folder: Path, name: str) -> pd.DataFrame:
    """The tidy table `name`, from parquet or, where only that was published, from CSV."""
    import pandas as pd

    parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
    if parquet.is_file():
        return pd.read_parquet(parquet)
    if csv.is_file():
        table = read_csv(csv)
        return typed(completed(table, COLUMNS) if name == "latency" else table)
    raise TidyError(f"no table {name} in {folder}; make it with `python -m bench collect`")


def completed(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table with, empty, those of `columns` that older files lack (`LATER`)."""
    return table.assign(**dict.fromkeys(sorted(LATER & set(columns) - set(table))))


def read_csv(file: Path) -> pd.DataFrame:
    """A CSV file with the fixed columns in their types; only an empty field is a missing value."""
    import pandas as pd

    with file.open() as lines:
        header = lines.readline().strip().split(",")
    types: Any = {column: DTYPES[column] for column in header if column in DTYPES}
    return pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])
