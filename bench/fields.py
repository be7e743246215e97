"""What a suite that predicts fields adds to the tidy tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import method, tidy
from bench.spec import FieldError, Point, Record

if TYPE_CHECKING:
    import pandas as pd


def predicts(record: Record) -> bool:
    """Whether the run's data set asks for the prediction of a field."""
    return record.dataset.get("task") == "field"


def columns(point: Point, dense: Point | None) -> dict[str, Any]:
    """The further columns of one operating point in `points`; none for a classifier."""
    if not isinstance(point.test, FieldError):
        return {}
    outcomes = {
        "relative_l2": point.test,
        "relative_l2_before": point.before,
        "relative_l2_dense": dense and dense.test,
        "validation_relative_l2": point.validation,
    }
    return {
        name: outcome.relative_l2 if isinstance(outcome, FieldError) else None
        for name, outcome in outcomes.items()
    }


def tables(
    suite: Path, records: dict[str, Record], points: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The tables `tidy.FIELD_SORT` of the suite's folder; `points`: the tidy one."""
    import pandas as pd

    rolled = [
        {"run": record.id, "point": point.index, "step": step, "relative_l2": error}
        for record in records.values()
        for point in record.points
        if isinstance(point.test, FieldError)
        for step, error in enumerate(point.test.rollout, 1)
    ]
    solver: list[tuple[str | None, Path]] = [
        (None, file) for file in sorted((suite / "latency" / "solver").glob("*.csv"))
    ]
    return {
        "rollout": pd.DataFrame(rolled, columns=["run", "point", "step", "relative_l2"]),
        "fields": shown(suite / "runs", points),
        "solver": tidy.csv_table(solver, tidy.SOLVER),
    }


def shown(folder: Path, points: pd.DataFrame) -> pd.DataFrame:
    """The fields that a figure shows, of few models, since fields are large.

    Per (data set, net): the truth, the dense net, and, at the lowest density asked for, of the nets
    with factors and of the others the one of least error; all of the first seed.
    """
    import pandas as pd

    parts = []
    done = points[points["relative_l2"].notna() & points["like"].isna()]
    for (dataset, arch), pair in done.groupby(["dataset", "arch"], sort=True):
        first = pair[(pair["seed"] == pair["seed"].min()) & pair["final"].eq(True)]
        for number, row in enumerate(chosen(first)):
            file = folder / row["run"] / "points" / str(row["point"]) / "fields.csv"
            table = tidy.csv_table([(None, file)], tidy.FIELDS)
            # the truth is the same for all: the dense net's file brings it
            table = table[(table["what"] == "predicted") | (number == 0)]
            names = {"dataset": dataset, "arch": arch, "run": row["run"], "point": row["point"]}
            parts.append(table.assign(**names))
    order = ["dataset", "arch", "run", "point", *tidy.FIELDS]
    return pd.concat(parts)[order] if parts else pd.DataFrame(columns=order)


def chosen(first: pd.DataFrame) -> list[dict[Any, Any]]:
    """The dense net's row, then the best net of each kind at its lowest density; see `shown`."""
    pruned = first[first["method"] != "dense"]
    factors = pruned["method"].map(lambda name: "factorised" in method.load(name).patterns)
    found = [first[first["method"] == "dense"]]
    asked = pruned["target_density"].fillna(pruned["density"])
    for kind in (factors.astype(bool), ~factors.astype(bool)):
        lowest = pruned[kind & (asked == asked[kind].min())]
        found.append(lowest.sort_values("relative_l2", kind="stable").head(1))
    return [row for part in found for row in part.to_dict("records")]
