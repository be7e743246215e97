"""Published results grow: joining two parts gives what one run of the whole would have given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import figures, tables, tidy
from bench.collect import collect
from bench.extend import ExtensionError, extend
from bench.publish import publish
from bench.spec import Record
from tests import records


def suite(folder: Path, chosen: list[Record], method: str = "") -> Path:
    """A collected suite of these records, with tables, figures and a plan."""
    collect(records.write(folder, chosen))
    tables.write(folder / "tables", folder / "tables")
    for name in figures.names(tidy.read(folder / "tables", "runs")["method"]):
        figures.draw(name, folder / "tables", folder / "figures")
    plan = {"config": {"suite": "x", "methods": {method: [{}]}}, "runs": [r.id for r in chosen]}
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def split() -> tuple[list[Record], list[Record]]:
    """The records without SAAM; the dense nets with SAAM and its controls."""
    every = records.suite()
    ours = [r for r in every if "saam" in r.spec.variant]
    dense = [r for r in every if r.dense is None]
    return [r for r in every if r not in ours], [*dense, *ours]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("extend")
    first, second = split()
    return {
        "first": suite(home / "first", first, "magnitude"),
        "second": suite(home / "second", second, "saam"),
        "whole": suite(home / "whole", records.suite(), "all"),
    }


def test_two_parts_joined_are_the_whole_to_the_byte(made, tmp_path):
    out = extend(made["first"] / "tables", made["second"] / "tables", tmp_path / "out")
    for part in ("tables", "figures"):
        names = sorted(f.name for f in (made["whole"] / part).iterdir() if f.suffix != ".parquet")
        assert names == sorted(f.name for f in (out / part).iterdir() if f.suffix != ".parquet")
        for name in names:
            assert (out / part / name).read_bytes() == (made["whole"] / part / name).read_bytes()


def test_publishing_with_add_keeps_what_is_there_and_names_both_configs(made, tmp_path):
    to, readme = tmp_path / "tag", tmp_path / "README.md"
    publish(made["first"], to, readme)
    publish(made["second"], to, readme, add=True)
    whole = (made["whole"] / "tables" / "comparison.csv").read_bytes()
    assert (to / "tables" / "comparison.csv").read_bytes() == whole
    assert set(json.loads((to / "suite.json").read_text())["methods"]) == {"magnitude", "saam"}
    assert len(json.loads((to / "environment.json").read_text())) == 1
    # once more, and nothing changes
    publish(made["second"], to, readme, add=True)
    assert (to / "tables" / "comparison.csv").read_bytes() == whole


def changed(folder: Path, to: Path, table: str, column: str, row: int, value: str) -> Path:
    """The tables of `folder` as CSV, with one cell changed."""
    to.mkdir()
    for file in (folder / "tables").glob("*.csv"):
        shutil.copy(file, to)
    frame = tidy.read(to, table).astype({column: "object"})
    frame.loc[row, column] = value
    frame.to_csv(to / f"{table}.csv", index=False)
    return to


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("points", "digest", "f" * 64, "it is another model than the published one"),
        ("points", "protocol", "2", "protocol is"),
        ("points", "dense", "dense-resnet8-digits-s9-00000000", "do not hold dense-resnet8"),
        ("latency", "device_name", "Other CPU", "device_name is"),
    ],
)
def test_results_that_were_not_made_alike_are_refused(
    made, tmp_path, table, column, value, message
):
    rows = tidy.read(made["second"] / "tables", table)
    shared = rows.index[rows["run"].str.startswith("dense-") == (column == "digest")][0]
    odd = changed(made["second"], tmp_path / "odd", table, column, shared, value)
    with pytest.raises(ExtensionError, match=message):
        extend(made["first"] / "tables", odd, tmp_path / "out")
