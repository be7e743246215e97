"""Writes what `bench.track.content` says into an MLflow store, once; see `bench.track`."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.spec import slug
from bench.track import content
from bench.track.source import Source, TrackError, finished, latency_rows

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

METRICS_PER_BATCH = 1000
ENTITIES_PER_BATCH = 100
"""MLflow's limits for one `log_batch`: metrics; params and tags."""
RUNS_PER_PAGE = 1000
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the pages for training, not those for language models."""


def track(
    suite_folder: Path,
    uri: str | None = None,
    runs: Iterable[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Mirror the records of a suite into MLflow; what is already there unchanged is left alone.

    Args:
        suite_folder: `results/<suite>`.
        uri: any MLflow tracking URI; none: `sqlite:///<suite_folder>/mlflow.db`. With SQLite the
            runs' tables are stored in `mlartifacts` beside the database, with a server where it
            decides.
        runs: ids of the runs to mirror; none: every run that has a `record.json`.
        progress: called with (runs done, runs in all) after each run.

    Returns:
        `uri`; `summary`: how many runs were `created`, `replaced`, `unchanged`; `runs`: from a
        run's id to MLflow's.

    Raises:
        TrackError: no such suite or run, an unreadable record, another process that mirrors this
            suite, or a store that MLflow refuses.
    """
    suite = Path(suite_folder).resolve()
    folders = finished(suite, runs)
    latency = latency_rows(suite)
    with _alone(suite), _mlflow(uri := uri or f"sqlite:///{suite / 'mlflow.db'}"):
        client = _connect(suite, uri)
        database = _database(uri)
        experiments = _Experiments(
            client, suite.name, database.parent / "mlartifacts" if database else None
        )
        summary = {"created": 0, "replaced": 0, "unchanged": 0}
        known: dict[str, str] = {}
        for done, folder in enumerate(folders, 1):
            files = Source.read(folder, latency.get(folder.name, []))
            outcome, known[folder.name] = _mirror(client, experiments, files)
            summary[outcome] += 1
            if progress:
                progress(done, len(folders))
    return {"uri": uri, "summary": summary, "runs": known}


def _mirror(client: MlflowClient, experiments: _Experiments, files: Source) -> tuple[str, str]:
    """Bring one run up to date; what was done to it, and MLflow's id of it."""
    spec = files.record.spec
    experiment, mirrored = experiments.of(spec.dataset, spec.arch)
    current = None
    stale = []
    for run_id, digest in mirrored.get(files.record.id, []):
        if digest == files.digest and current is None:
            current = run_id
        else:
            stale.append(run_id)
    for run_id in stale:
        client.delete_run(run_id)
    if current is not None:
        return "unchanged", current
    return "replaced" if stale else "created", _write(client, experiment, files, experiments.suite)


def _write(client: MlflowClient, experiment: str, files: Source, suite: str) -> str:
    """A new MLflow run with everything that `files` hold; its id."""
    from mlflow.entities import Metric, Param, RunTag
    from pandas import DataFrame

    record = files.record
    tags = content.tags(record, suite)
    run = client.create_run(
        experiment, start_time=content.started(record), tags=tags, run_name=record.id
    )
    run_id = run.info.run_id
    # Tables first: log_table reads the whole run back, which is cheap only while it has no metrics.
    for name, columns in files.tables().items():
        client.log_table(run_id, DataFrame(columns, dtype=object), f"{name}.json")
    client.log_text(run_id, files.text, "record.json")
    if record.dataset:
        client.log_inputs(run_id, [_dataset(content.dataset(record))])
    params = [Param(key, value) for key, value in content.params(record.spec).items()]
    metrics = [Metric(*sample) for sample in content.metrics(files)]
    for part in _chunks(params, ENTITIES_PER_BATCH):
        client.log_batch(run_id, params=part)
    for part in _chunks(metrics, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=part)
    client.set_terminated(
        run_id, "FINISHED" if record.status == "ok" else "FAILED", content.ended(record)
    )
    client.log_batch(run_id, tags=[RunTag(content.DIGEST, files.digest)])
    return run_id


def _dataset(entry: dict[str, str]) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(
        Dataset(**entry), [InputTag("mlflow.data.context", "train, validation, test")]
    )


class _Experiments:
    """The experiments of a store, `<dataset>/<arch>`, each found or made when a run asks for it."""

    def __init__(self, client: MlflowClient, suite: str, artifacts: Path | None) -> None:
        self.suite = suite
        self._client = client
        self._artifacts = artifacts
        self._known: dict[tuple[str, str], tuple[str, dict[str, list[tuple[str, str]]]]] = {}

    def of(self, dataset: str, arch: str) -> tuple[str, dict[str, list[tuple[str, str]]]]:
        """The experiment's id, and of this suite in it: run id -> [(MLflow's run id, digest)]."""
        key = dataset, arch
        if key not in self._known:
            experiment = self._open(dataset, arch)
            self._known[key] = experiment, self._mirrored(experiment)
        return self._known[key]

    def _open(self, dataset: str, arch: str) -> str:
        name = f"{dataset}/{arch}"
        location = (
            (self._artifacts / slug(dataset) / slug(arch)).as_uri() if self._artifacts else None
        )
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return self._client.create_experiment(name, location, EXPERIMENT_TAGS)
        if location and found.artifact_location != location:
            raise TrackError(
                f"experiment {name} keeps its tables in {found.artifact_location}, not in "
                f"{location}: the suite was moved or copied; delete its mlflow.db and mlartifacts "
                "and call again, they are rebuilt from the records"
            )
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _mirrored(self, experiment: str) -> dict[str, list[tuple[str, str]]]:
        # Two suites may share a server and even a run id; each minds its own runs only.
        only = f"tags.{content.SUITE} = '{self.suite}'"
        runs = defaultdict(list)
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment], only, max_results=RUNS_PER_PAGE, page_token=token
            )
            for run in page:
                tags = run.data.tags
                runs[tags[content.RUN]].append((run.info.run_id, tags.get(content.DIGEST, "")))
            token = page.token
            if not token:
                return runs


def _connect(suite: Path, uri: str) -> MlflowClient:
    """A client of the store at `uri`; a database file that does not exist is created."""
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    database = _database(uri)
    if (
        database == suite / "mlflow.db"
        and not database.exists()
        and (suite / "mlartifacts").exists()
    ):
        shutil.rmtree(suite / "mlartifacts")  # of a deleted database: nothing names them any more
    client = MlflowClient(tracking_uri=uri)
    if database and not database.exists():
        # MLflow keeps its connections to a URI: what it writes would go to the unlinked file.
        raise TrackError(
            f"{database} was deleted while this process had it open; call again from a new process"
        )
    return client


def _database(uri: str) -> Path | None:
    """The file of a SQLite store; none: a server."""
    file = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(file[1]).resolve() if file else None


@contextmanager
def _alone(suite: Path) -> Iterator[None]:
    """Hold the suite's lock: two processes at once would write every run twice."""
    with (suite / ".track.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = f"another process is tracking {suite} right now; wait for it and call again"
            raise TrackError(busy) from None
        yield


@contextmanager
def _mlflow(uri: str) -> Iterator[None]:
    """Import MLflow, quietly and without telemetry; its refusals then name the store."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackError(f"MLflow refused to track to {uri}: {error}") from error


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
