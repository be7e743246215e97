"""Records become tidy tables: complete, typed, ordered, the same bytes each time, never mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench import tidy
from bench.collect import TIME_COLUMNS, CollectError, collect
from bench.env import environment
from bench.method import load
from bench.provenance import commit, hardware
from bench.spec import PROTOCOL
from tests import records


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    folder = records.write(tmp_path_factory.mktemp("suite"), records.suite())
    collect(folder)
    return folder


def ids(folder: Path) -> list[str]:
    return [file.name for file in (folder / "runs").iterdir()]


def test_every_run_and_point_is_a_row_and_nothing_else(suite):
    made = records.suite()
    points, runs = tidy.read(suite / "tables", "points"), tidy.read(suite / "tables", "runs")
    assert sorted(runs["run"]) == sorted(item.id for item in made)
    assert len(points) == sum(max(1, len(item.points)) for item in made)


def test_a_failed_run_is_a_row_with_its_reason(suite):
    points = tidy.read(suite / "tables", "points")
    failed = points[points["status"] == "failed"]
    assert list(failed["reason"]) == ["layer collapse: conv2.weight has no weight left"]
    assert failed["top1"].isna().all()
    assert failed["target_density"].tolist() == [0.02]


def test_ratios_are_dense_over_pruned(suite):
    points = tidy.read(suite / "tables", "points").set_index("run")
    made = {item.id: item for item in records.suite()}
    run = next(item for item in made.values() if item.spec.variant == "saam")
    row, dense, own = points.loc[run.id], made[run.dense].points[-1], run.points[-1]
    assert row["compression"] == pytest.approx(dense.bits / own.bits, rel=1e-9)
    assert row["parameter_ratio"] == pytest.approx(dense.parameters / own.nonzeros, rel=1e-9)
    assert row["theoretical_speedup"] == pytest.approx(dense.macs / own.effective_macs, rel=1e-9)
    assert row["top1_dense"] == pytest.approx(dense.test.top1, rel=1e-9)
    assert points.loc[run.dense, "compression"] == 1


def test_family_is_the_method_files_own(suite):
    runs = tidy.read(suite / "tables", "runs")
    assert {name: load(name).family for name in set(runs["method"])} == dict(
        zip(runs["method"], runs["family"], strict=True)
    )


def test_a_control_names_the_variant_it_copies(suite):
    runs = tidy.read(suite / "tables", "runs").set_index("run")
    controls = runs[runs["like"].notna()]
    assert len(controls) == 2 * 3 * 2 * (len(records.DENSITIES) + len(records.CURVES))
    assert (
        controls["like_variant"].to_numpy() == runs.loc[controls["like"], "variant"].to_numpy()
    ).all()
    assert (controls["seed"].to_numpy() == runs.loc[controls["like"], "seed"].to_numpy()).all()


def test_a_curve_lists_the_densities_asked_of_it_and_no_other_run_does(suite):
    points = tidy.read(suite / "tables", "points")
    made = {item.id: item.spec.densities for item in records.suite()}
    for run, rows in points.groupby("run"):
        texts = set(rows["densities"].dropna())
        found = [tuple(float(word) for word in text.split()) for text in texts]
        assert found == [made[run]] * bool(made[run])
    assert set(points.loc[points["densities"].notna(), "target_density"]) == {0.02}


def test_parquet_and_csv_hold_the_same_table(suite, tmp_path):
    for name in tidy.SORT:
        shutil.copy(suite / "tables" / f"{name}.csv", tmp_path)
        pd.testing.assert_frame_equal(tidy.read(suite / "tables", name), tidy.read(tmp_path, name))


def test_collecting_again_from_files_in_another_order_gives_the_same_bytes(suite, tmp_path):
    records.write(tmp_path, list(reversed(records.suite())))
    collect(tmp_path, reversed(ids(suite)))
    for file in sorted((suite / "tables").iterdir()):
        assert file.read_bytes() == (tmp_path / "tables" / file.name).read_bytes(), file.name


def test_only_the_time_columns_depend_on_the_clock_and_they_stand_last(suite, tmp_path):
    slower = [
        item.model_copy(
            update={
                "seconds": 7.5,
                "started": "2027-01-01T00:00:00+00:00",
                "peak_memory": 1,
                "ledger": tuple(
                    line.model_copy(update={"seconds": line.seconds * 3}) for line in item.ledger
                ),
            }
        )
        for item in records.suite()
    ]
    records.write(tmp_path, slower)
    collect(tmp_path)
    for name in ("runs", "points"):
        one, other = tidy.read(suite / "tables", name), tidy.read(tmp_path / "tables", name)
        assert tuple(one.columns[-len(TIME_COLUMNS) :]) == TIME_COLUMNS
        assert not one.equals(other)
        same = [frame.drop(columns=list(TIME_COLUMNS)).to_csv() for frame in (one, other)]
        assert same[0] == same[1]


def test_runs_outside_the_plan_are_ignored(suite, tmp_path):
    records.write(tmp_path, records.suite())
    planned = [item.id for item in records.suite() if item.spec.method == "dense"]
    collect(tmp_path, planned)
    assert set(tidy.read(tmp_path / "tables", "points")["run"]) == set(planned)
    assert set(tidy.read(tmp_path / "tables", "latency")["run"]) <= set(planned)


def test_a_planned_run_without_a_record_is_named(suite):
    with pytest.raises(CollectError, match=r"1 of 2 planned runs have no record.*magnitude-x"):
        collect(suite, [ids(suite)[0], "magnitude-x"])


def test_two_protocols_never_stand_in_one_table(tmp_path):
    first = records.suite()[0]
    newer = first.spec.model_copy(update={"protocol": PROTOCOL + 1, "seed": 77})
    records.write(
        tmp_path, [first, first.model_copy(update={"spec": newer, "id": newer.id})], latency=False
    )
    with pytest.raises(CollectError, match="protocol versions 1, 2"):
        collect(tmp_path)


def test_two_runs_with_the_same_labels_are_refused(tmp_path):
    made = [item for item in records.suite() if item.spec.seed == 0 and item.spec.arch == "lstm"]
    run = next(item for item in made if item.spec.variant == "sap")
    spec = run.spec.model_copy(update={"params": run.spec.params | {"beta": 0.5}})
    records.write(
        tmp_path, [*made, run.model_copy(update={"spec": spec, "id": spec.id})], latency=False
    )
    with pytest.raises(CollectError, match="give one of them its own variant"):
        collect(tmp_path)


def test_a_damaged_record_is_named(tmp_path):
    item = records.suite()[0]
    records.write(tmp_path, [item], latency=False)
    file = tmp_path / "runs" / item.id / "record.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(CollectError, match=item.id):
        collect(tmp_path)


def test_history_keeps_the_methods_own_numbers(suite):
    history = tidy.read(suite / "tables", "history")
    own = history[history["event"] == "pqi"]
    assert (own["pqi"] == 0.25).all()
    assert own["epoch"].isna().all()
    assert history["pqi"].isna().any()


def test_every_column_is_in_the_dictionary(suite):
    text = (Path(__file__).parents[1] / "results" / "README.md").read_text()
    for name in tidy.SORT:
        columns = set(tidy.read(suite / "tables", name).columns) - {"pqi"}
        assert not {column for column in columns if f"`{column}`" not in text}, name


def test_a_row_names_the_hardware_the_versions_and_the_commit(suite):
    row = tidy.read(suite / "tables", "points").iloc[0]
    assert row[["device", "torch", "git_commit"]].tolist() == ["Some CPU", "2.15.0", "0" * 40]
    gpu = {"device": "cuda:0", "cpu": "Some CPU", "gpus": [{"name": "Some GPU"}]}
    assert hardware(gpu) == "Some GPU"
    assert commit({"commit": "abc", "dirty": True}) == "abc+changes"


def test_the_columns_are_those_that_the_environment_really_has():
    found = environment()
    assert {"packages", "git", "cpu", "gpus"} <= set(found)
    assert found["packages"]["torch"]
    assert {"commit", "dirty"} <= set(found["git"])
