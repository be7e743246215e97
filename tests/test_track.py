"""What MLflow shows is what the records say, and nothing is written twice."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.spec import RunSpec
from bench.track import TrackError, track
from tests import track_records as records

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tracking depends neither on the method files of today nor on the working directory."""
    monkeypatch.setattr("bench.method.load", records.METHODS.__getitem__)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no runs; making one takes seconds, copying it none."""
    suite = tmp_path_factory.mktemp("empty")
    (suite / "runs").mkdir()
    track(suite)
    return suite / "mlflow.db"


@pytest.fixture
def suite(tmp_path: Path, empty_store: Path) -> Path:
    """A suite of three runs in two experiments, one of them failed, and an empty MLflow store."""
    folder = tmp_path / "quick"
    folder.mkdir()
    shutil.copy(empty_store, folder)
    good = records.record()
    records.write(folder, good)
    records.latency(folder, good.id)
    records.write(folder, records.record("dense", points=1, dense=None))
    spec = RunSpec(method="magnitude", arch="lenet5", dataset="fashion_mnist", seed=1)
    records.write(
        folder,
        records.record(spec=spec, status="failed", reason="loss is nan", points=0, seconds=1.0),
    )
    return folder


def client(suite: Path, database: str = "mlflow.db") -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{suite / database}")


def every_run(known: Any) -> dict[str, Any]:
    """Active MLflow runs by name."""
    experiments = [e.experiment_id for e in known.search_experiments()]
    found = [known.get_run(run.info.run_id) for run in known.search_runs(experiments)]
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def content(known: Any) -> dict[str, Any]:
    """All that the store holds but for MLflow's own ids."""
    return {
        name: {
            "experiment": known.get_experiment(run.info.experiment_id).name,
            "info": (run.info.status, run.info.start_time, run.info.end_time),
            "tags": run.data.tags,
            "params": run.data.params,
            "metrics": {
                key: [
                    (m.step, m.timestamp, m.value)
                    for m in known.get_metric_history(run.info.run_id, key)
                ]
                for key in run.data.metrics
            },
            "inputs": [entry.dataset.to_dictionary() for entry in run.inputs.dataset_inputs],
            "files": {
                file.name: file.read_text()
                for file in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*")
                if file.is_file()
            },
        }
        for name, run in every_run(known).items()
    }


def rows(suite: Path) -> dict[str, int]:
    """Rows of every table of the database."""
    with sqlite3.connect(suite / "mlflow.db") as store:
        names = [
            name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {name: store.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def test_experiments_are_dataset_and_architecture_and_runs_are_named_by_id(suite: Path) -> None:
    outcome = track(suite)
    assert outcome["summary"] == {"created": 3, "replaced": 0, "unchanged": 0}
    found = content(client(suite))
    assert set(found) == {file.parent.name for file in suite.glob("runs/*/record.json")}
    assert sorted(run["experiment"] for run in found.values()) == [
        "digits/resnet8",
        "digits/resnet8",
        "fashion_mnist/lenet5",
    ]
    assert {name: run.info.run_id for name, run in every_run(client(suite)).items()} == outcome[
        "runs"
    ]


def test_tags_and_params_tell_the_spec_and_where_it_ran(suite: Path) -> None:
    track(suite)
    run = content(client(suite))[records.record().id]
    expected = {
        "run_id_bench": records.record().id,
        "suite": "quick",
        "method": "magnitude",
        "family": "magnitude",
        "variant": "magnitude",
        "pattern": "unstructured",
        "seed": "0",
        "git_commit": records.ENVIRONMENT["git"]["commit"],
        "device": "cpu",
        "protocol": "1",
        "status": "ok",
        "tier": "equal",
        "provenance": "rerun",
        "dense": "dense-resnet8-digits-s0-00000000",
    }
    assert expected.items() <= run["tags"].items()
    assert len(run["tags"]["record_digest"]) == 64
    assert {
        "method": "magnitude",
        "params.density": "0.1",
        "finetune.lr": "0.01",
        "train.milestones": "[0.5, 0.75]",
        "train.nesterov": "true",
        "like": "null",
    }.items() <= run["params"].items()


def test_a_pattern_in_the_spec_wins_over_the_default(suite: Path) -> None:
    spec = RunSpec(
        method="magnitude", params={"pattern": "channel"}, arch="resnet8", dataset="digits"
    )
    records.write(suite, records.record(spec=spec))
    track(suite)
    assert content(client(suite))[spec.id]["tags"]["pattern"] == "channel"


def test_long_params_are_cut_at_the_limit_and_kept_whole_in_the_record(suite: Path) -> None:
    spec = RunSpec(
        method="magnitude", params={"layers": "x" * 900}, arch="resnet8", dataset="digits"
    )
    records.write(suite, records.record(spec=spec))
    track(suite)
    run = content(client(suite))[spec.id]
    value = run["params"]["params.layers"]
    assert len(value) == 500
    assert value.endswith("(whole in record.json)")
    assert json.loads(run["files"]["record.json"])["spec"]["params"]["layers"] == "x" * 900


def test_curves_points_events_latency_and_cost_are_metrics_with_their_steps(suite: Path) -> None:
    track(suite)
    entry = records.record()
    metrics = content(client(suite))[entry.id]["metrics"]
    start, end = 1767323045000, 1767323045000 + 12500
    assert metrics["finetune/loss"] == [(e, start + 1000 * e, 2 / e) for e in (1, 2, 3)]
    assert [step for step, _, _ in metrics["finetune/validation"]] == [2, 3]
    for point in entry.points:
        at = point.index
        assert (at, end, point.test.top1) in metrics["test_top1"]
        assert (at, end, point.density) in metrics["density"]
        assert (at, end, point.effective_macs) in metrics["effective_macs"]
        assert (at, end, point.bits_format["bitmap"]) in metrics["bits_format/bitmap"]
    assert len(metrics["test_top1"]) == 2
    assert metrics["before_top1"] == [(1, end, 0.4)]
    assert metrics["pqi/index/conv1.weight"] == [(0, start + 3000, 0.0), (1, start + 3000, 0.1)]
    setting = "latency/Some.CPU.2.50GHz/masked_dense-eager-fp32-nchw-b64-t2"
    assert metrics[f"{setting}/median_ms"] == [(1, end, 1.5)]
    assert not [name for name in metrics if "csr-eager" in name]
    assert metrics["ledger/finetune/seconds"] == [(0, end, 5)]
    assert metrics["ledger/finetune/epochs"] == [(0, end, 2)]


def test_more_metrics_than_a_batch_holds_arrive_whole_and_not_a_number_survives(
    suite: Path,
) -> None:
    entry = records.record(seed=5)
    folder = records.write(suite, entry, epochs=400)
    with (folder / "history.jsonl").open("a") as stream:
        stream.write('{"event": "probe", "score": NaN}\n{"event": "probe", "score": 2}\n')
    track(suite, runs=[entry.id])
    metrics = content(client(suite))[entry.id]["metrics"]
    assert [value for _, _, value in metrics["finetune/loss"]] == [2 / e for e in range(1, 401)]
    first, second = metrics["probe/score"]
    assert first[0] == 0
    assert first[2] != first[2]
    assert second[0::2] == (1, 2.0)


def test_layers_and_latency_are_tables_that_mlflow_loads(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(suite)
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"sqlite:///{suite / 'mlflow.db'}"
    )  # load_table reads no other
    run = every_run(client(suite))[records.record().id]
    assert {entry["path"] for entry in json.loads(run.data.tags["mlflow.loggedArtifacts"])} == {
        "layers.json",
        "latency.json",
    }
    layers = client(suite).load_table(run.info.experiment_id, "layers.json", [run.info.run_id])
    assert list(layers["layer"]) == [*records.LAYERS] * 2
    assert list(layers["point"]) == [0, 0, 1, 1]
    assert layers["effective_macs"].sum() == 2000
    latency = client(suite).load_table(run.info.experiment_id, "latency.json", [run.info.run_id])
    assert list(latency["reason"].fillna("")) == ["", "no conv"]


def test_the_data_set_is_an_input_with_its_digest(suite: Path) -> None:
    track(suite)
    (entry,) = content(client(suite))[records.record().id]["inputs"]
    assert entry["name"] == "digits"
    assert entry["digest"] == ("ab" * 32)[:36]
    assert json.loads(entry["profile"]) == records.DATASET


def test_a_failed_run_is_shown_as_failed_with_its_reason(suite: Path) -> None:
    track(suite)
    (run,) = [
        run
        for run in content(client(suite)).values()
        if run["experiment"] == "fashion_mnist/lenet5"
    ]
    assert run["info"][0] == "FAILED"
    assert run["info"][2] - run["info"][1] == 1000
    assert run["tags"]["reason"] == run["tags"]["mlflow.note.content"] == "loss is nan"
    assert {
        name for name, other in content(client(suite)).items() if other["info"][0] == "FINISHED"
    } == {
        records.record().id,
        records.record("dense", points=1).id,
    }


def test_everything_is_written_inside_the_suite(suite: Path) -> None:
    track(suite)
    assert not list(Path.cwd().iterdir())
    assert {file.name for file in suite.iterdir()} == {
        "runs",
        "latency",
        "mlflow.db",
        "mlartifacts",
        ".track.lock",
    }


def test_a_second_call_writes_nothing(suite: Path) -> None:
    first = track(suite)
    before = rows(suite), content(client(suite)), (suite / "mlflow.db").read_bytes()
    second = track(suite)
    assert second["summary"] == {"created": 0, "replaced": 0, "unchanged": 3}
    assert second["runs"] == first["runs"]
    assert (rows(suite), content(client(suite)), (suite / "mlflow.db").read_bytes()) == before


@pytest.mark.parametrize("file", ["record.json", "history.jsonl", "layers.csv", "latency"])
def test_a_changed_file_replaces_its_run_and_no_other(suite: Path, file: str) -> None:
    first = track(suite)
    entry = records.record()
    folder = suite / "runs" / entry.id
    if file == "record.json":
        records.write(suite, entry.model_copy(update={"seconds": 99.0}))
    elif file == "latency":
        records.latency(suite, entry.id, median=2.5)
    else:
        (folder / file).write_text("\n".join((folder / file).read_text().splitlines()[:-1]) + "\n")
    second = track(suite)
    assert second["summary"] == {"created": 0, "replaced": 1, "unchanged": 2}
    changed = {run for run in first["runs"] if first["runs"][run] != second["runs"][run]}
    assert changed == {entry.id}
    assert set(every_run(client(suite))) == set(first["runs"])


def test_a_half_mirrored_run_is_replaced(suite: Path) -> None:
    first = track(suite)
    run = first["runs"][records.record().id]
    client(suite).delete_tag(run, "record_digest")
    whole = content(client(suite))
    assert track(suite)["summary"] == {"created": 0, "replaced": 1, "unchanged": 2}
    again = content(client(suite))
    assert len(again[records.record().id]["tags"].pop("record_digest")) == 64
    assert again == whole


def test_a_deleted_database_is_rebuilt_to_the_same_content(suite: Path) -> None:
    script = (
        "import json, sys; from pathlib import Path;"
        "import bench.method, bench.track; from tests import track_records;"
        "bench.method.load = track_records.METHODS.__getitem__;"
        "print(json.dumps(bench.track.track(Path(sys.argv[1]))))"
    )
    # In a process of its own: MLflow holds a database open, users delete it between two calls.
    call = [sys.executable, "-c", script, str(suite)]
    first = json.loads(
        subprocess.run(call, cwd=ROOT, check=True, capture_output=True, timeout=120).stdout
    )
    shutil.copy(suite / "mlflow.db", suite / "copy.db")
    before = content(client(suite, "copy.db"))
    (suite / "mlflow.db").unlink()
    second = track(suite)
    assert second["summary"] == first["summary"] == {"created": 3, "replaced": 0, "unchanged": 0}
    assert content(client(suite)) == before
    # The tables of the deleted database are gone too: one folder per run, not two.
    assert len(list((suite / "mlartifacts").glob("*/*/*"))) == 3


def test_only_the_runs_asked_for_are_mirrored(suite: Path) -> None:
    wanted = records.record().id
    assert set(track(suite, runs=[wanted])["runs"]) == set(every_run(client(suite))) == {wanted}


def test_two_suites_share_a_store_without_touching_each_other(suite: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    records.write(other, records.record(seconds=77.0))
    uri = f"sqlite:///{suite / 'mlflow.db'}"
    track(suite, uri)
    assert track(other, uri)["summary"]["created"] == 1
    assert track(suite, uri)["summary"]["unchanged"] == 3
    assert track(other, uri)["summary"]["unchanged"] == 1


def test_an_experiment_deleted_by_hand_comes_back_without_twins(suite: Path) -> None:
    track(suite)
    known = client(suite)
    known.delete_experiment(known.get_experiment_by_name("digits/resnet8").experiment_id)
    track(suite)
    assert set(every_run(client(suite))) == {
        file.parent.name for file in suite.glob("runs/*/record.json")
    }


def test_a_run_without_a_record_is_not_finished_and_not_shown(suite: Path) -> None:
    (suite / "runs" / "magnitude-resnet8-digits-s9-00000000").mkdir()
    assert len(track(suite)["runs"]) == 3
    with pytest.raises(TrackError, match="no record of magnitude-resnet8-digits-s9-00000000"):
        track(suite, runs=["magnitude-resnet8-digits-s9-00000000"])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("record.json", "{", "record.json is no record"),
        ("history.jsonl", '{"event": "epoch"', "history.jsonl, line 1 is no JSON"),
        ("layers.csv", None, "layers.csv is missing although its run is ok"),
    ],
)
def test_a_broken_file_is_named(suite: Path, file: str, text: str | None, message: str) -> None:
    broken = suite / "runs" / records.record().id / file
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    with pytest.raises(TrackError, match=message) as refusal:
        track(suite)
    assert records.record().id in str(refusal.value)


def test_a_moved_suite_is_refused_with_what_to_do(suite: Path, tmp_path: Path) -> None:
    track(suite)
    moved = suite.rename(tmp_path / "moved")
    with pytest.raises(TrackError, match=r"delete its mlflow\.db and mlartifacts"):
        track(moved)


def test_a_database_deleted_under_an_open_process_is_not_written_to_in_vain(suite: Path) -> None:
    track(suite)
    (suite / "mlflow.db").unlink()
    with pytest.raises(TrackError, match="call again from a new process"):
        track(suite)


def test_a_second_process_is_refused(suite: Path) -> None:
    with (suite / ".track.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrackError, match="another process is tracking"):
            track(suite)
    assert track(suite)["summary"]["created"] == 3


def test_a_folder_that_is_no_suite_and_a_store_that_mlflow_refuses_are_clear_errors(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackError, match="holds no runs"):
        track(tmp_path / "nowhere")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(TrackError, match="MLflow refused to track to file:"):
        track(suite, (tmp_path / "mlruns").as_uri())


def test_a_file_store_works_where_mlflow_is_told_to_allow_it(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    assert track(suite, uri)["summary"]["created"] == 3
    assert track(suite, uri)["summary"]["unchanged"] == 3
