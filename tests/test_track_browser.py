"""A person who opens MLflow in a browser sees the experiments, the runs and their layers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.track import track
from tests import track_records as records

pytestmark = pytest.mark.browser
START_LIMIT, STOP_LIMIT, PAGE_LIMIT = 90, 15, 60


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of two methods and a failed run, mirrored."""
    folder = tmp_path_factory.mktemp("browser") / "quick"
    for method in ("dense", "magnitude"):
        for seed in range(3):
            entry = records.record(method, seed=seed)
            records.write(folder, entry, epochs=12)
    records.write(folder, records.record(seed=9, status="failed", reason="loss is nan", points=0))
    records.latency(folder, entry.id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.method.load", records.METHODS.__getitem__)
        track(folder)
    return folder


@pytest.fixture(scope="module")
def server(suite: Path) -> Iterator[str]:
    """The address of an MLflow server on the suite's database, ended with its workers."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    log = suite.parent / "server.log"
    store = f"sqlite:///{suite / 'mlflow.db'}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        store,
        "--workers",
        "1",
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=suite.parent,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for(f"{address}/health", process, log)
            yield address
        finally:
            stop(process)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `address` answers; fails with the server's log if it ends or takes too long."""
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(STOP_LIMIT)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def page(address: str, folder: Path, seconds: int = 8) -> str:
    """The page at `address` as chromium shows it after `seconds` of its own time."""
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1600,1200",
    ]
    profile = [f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={1000 * seconds}"]
    done = subprocess.run(
        ["chromium", *flags, *profile, "--dump-dom", address],
        check=True,
        capture_output=True,
        text=True,
        timeout=PAGE_LIMIT,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_experiments_runs_curves_and_layers(
    server: str, suite: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{suite / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits/resnet8")
    assert experiment is not None
    entry = records.record(seed=2)
    outcome = track(suite)
    run = f"{server}/#/experiments/{experiment.experiment_id}/runs/{outcome['runs'][entry.id]}"

    assert "digits/resnet8" in page(f"{server}/#/experiments", tmp_path)
    listing = page(f"{server}/#/experiments/{experiment.experiment_id}/runs", tmp_path)
    assert all(name in listing for name in outcome["runs"])
    overview = page(run, tmp_path)
    assert entry.id in overview
    assert "test_top1" in overview
    assert "params.density" in overview
    assert "finetune" in page(f"{run}/model-metrics", tmp_path)
    assert "conv1.weight" in page(f"{run}/artifacts/layers.json", tmp_path)


def test_a_server_is_filled_like_a_file(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("bench.method.load", records.METHODS.__getitem__)
    entry = records.record(seed=3)
    records.write(tmp_path / "remote", entry, epochs=400)
    first = track(tmp_path / "remote", server)
    second = track(tmp_path / "remote", server)
    assert first["summary"] == {"created": 1, "replaced": 0, "unchanged": 0}
    assert second["summary"] == {"created": 0, "replaced": 0, "unchanged": 1}
    client, run = MlflowClient(server), first["runs"][entry.id]
    assert len(client.get_metric_history(run, "finetune/loss")) == 400
    assert {file.path for file in client.list_artifacts(run)} == {"layers.json", "record.json"}
