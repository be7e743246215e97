"""Do one run: start, compress, measure each operating point, leave a record.

Nothing half-done looks finished: a run's folder gets its name when its record is written.
"""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench import data as datasets
from bench import measure, models, rng
from bench.controls import copies
from bench.env import environment
from bench.method import Method, load, make
from bench.plan import baseline
from bench.refusals import refuse_collapse, refuse_tricks
from bench.spec import Accuracy, Outcome, Point, Record, RunSpec
from bench.surgery import channels, store
from bench.surgery.allocation import AllocationError
from bench.surgery.patterns import PatternError
from bench.trainer import Trainer, TrainingFailed

if TYPE_CHECKING:
    from bench.data import Dataset

FAILURES = (
    TrainingFailed,
    FloatingPointError,
    PatternError,
    AllocationError,
    channels.SurgeryError,
    torch.cuda.OutOfMemoryError,
)
"""What ends in a record with the reason; any other exception is a fault of the code."""


def run(
    spec: RunSpec,
    suite: Path,
    data_root: Path,
    device: str = "auto",
    watch: Callable[[str], None] = lambda line: None,
) -> Record:
    """The record of `spec`, from `suite/runs/<id>` if it is there, else by doing the run.

    A loss that is no number, a collapsed layer, memory that runs out and a density out of reach end
    in a record with status `failed` and the reason; any other exception is a fault and leaves no
    record.
    """
    folder = suite / "runs" / spec.id
    if (folder / "record.json").exists():
        return read(folder)
    partial = folder.with_name(f"{spec.id}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    work = Work(spec, suite, partial, data_root, resolve(device), watch)
    record = work.do()
    (partial / "record.json").write_text(record.model_dump_json(indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)  # left where somebody deleted only the record
    partial.rename(folder)
    return record


def read(folder: Path) -> Record:
    """The record in a run's folder."""
    return Record.model_validate_json((folder / "record.json").read_text())


def resolve(device: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


@lru_cache(maxsize=1)
def dataset(name: str, root: Path, device: str) -> Dataset:
    """The data set `name`, read once for all runs of a job: image folders take long to decode."""
    return datasets.load(name, root, device=device)


class Work:
    """One run while it is being done."""

    def __init__(
        self,
        spec: RunSpec,
        suite: Path,
        folder: Path,
        root: Path,
        device: torch.device,
        watch: Callable[[str], None],
    ) -> None:
        self.spec, self.suite, self.folder = spec, suite, folder
        self.device, self.watch = device, watch
        self.data = dataset(spec.dataset, root, str(device))
        self.dense = None if spec.finetune is None else read(suite / "runs" / baseline(spec).id)
        self.points: list[Point] = []
        self.rows: list[dict[str, Any]] = []
        self.epochs_before = 0.0

    def initial(self) -> nn.Module:
        """The untrained net of (architecture, seed), the same for every method."""
        with rng.forked("init", self.spec.arch, self.spec.seed):
            model = models.build(
                self.spec.arch, self.data.shape, self.data.classes, weights=self.spec.weights
            )
        return model.to(self.device)

    def do(self) -> Record:
        """Do the run and return its record."""
        started, clock = datetime.now(UTC), time.perf_counter()
        initial = self.initial()
        with (self.folder / "history.jsonl").open("w") as history:

            def log(line: dict[str, Any]) -> None:
                print(json.dumps(line), file=history)

            trainer = Trainer(
                self.spec, self.data, self.device, self.initial, self.budget(), log, self.watch
            )
            reason = self.attempt(trainer)
        write_rows(self.folder / "layers.csv", self.rows)
        pretrained = self.dense.ledger if self.dense and self.method_class.start == "dense" else ()
        return Record(
            id=self.spec.id,
            spec=self.spec,
            status="ok" if reason is None else "failed",
            reason=reason,
            dense=self.dense.id if self.dense else None,
            points=tuple(
                p.model_copy(update={"final": p.index == len(self.points) - 1}) for p in self.points
            ),
            ledger=(*pretrained, *trainer.ledger.spent.values()),
            environment=environment()
            | {"device": self.device.type, "threads": torch.get_num_threads()},
            dataset=datasets.info(self.data),
            initial=store.digest(initial),
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 3),
            peak_memory=peak_memory(self.device),
        )

    def attempt(self, trainer: Trainer) -> str | None:
        """Follow the method to its end; the reason if one of `FAILURES` ends it, else none."""
        try:
            if self.dense and self.dense.status == "failed":
                raise TrainingFailed(f"its dense start {self.dense.id} failed: {self.dense.reason}")
            for method, copied in self.methods():
                self.follow(method, copied, trainer)
        except FAILURES as error:
            reason = f"{type(error).__name__}: {error}"
            self.watch(f"failed: {reason}")
            return reason
        return None

    @property
    def method_class(self) -> type[Method]:
        """The class of this run's method."""
        return load(self.spec.method)

    def budget(self) -> float:
        """Epochs that the method may train: without limit in the paper tier."""
        if self.spec.finetune is None:
            return self.spec.train.epochs
        if self.spec.tier == "paper":
            return math.inf
        beyond = self.spec.finetune.epochs * max(1, len(self.spec.densities))
        return beyond + (self.spec.train.epochs if self.method_class.start != "dense" else 0)

    def methods(self) -> Iterator[tuple[Method, nn.Module | None]]:
        """The method once; for a control, once for every operating point that it copies.

        With the net that it is given, if that is another's.
        """
        method = make(self.spec.method, self.spec.params)
        if self.spec.like is None:
            yield method, None
        else:
            source = self.suite / "runs" / self.spec.like
            yield from copies(method, source, read(source), self.initial, self.data.shape)

    def follow(self, method: Method, copied: nn.Module | None, trainer: Trainer) -> None:
        """Run `method` from its start and measure every point that it yields."""
        if copied is not None:
            model = copied.to(self.device)
        elif method.start == "dense":
            start = self.suite / "runs" / baseline(self.spec).id / "points" / "0"
            model = store.load(start).to(self.device)
        else:
            model = self.initial()
        # a control does this once for each point that it copies: each time from the same batches,
        # counted anew
        trainer.step, self.epochs_before = 0, trainer.epochs_spent
        clock, counted = time.perf_counter(), trainer.ledger.seconds()
        points = method.compress(model, trainer)
        while True:
            yielded = next(points, None)
            # what a method spends outside training, scoring and validation is the cost of pruning
            rest = time.perf_counter() - clock - (trainer.ledger.seconds() - counted)
            trainer.ledger.add("prune", seconds=max(0.0, rest))
            if yielded is None:
                return
            refuse_tricks(yielded, self.spec.method)
            refuse_collapse(yielded)
            self.measure(yielded, trainer)
            clock, counted = time.perf_counter(), trainer.ledger.seconds()

    def measure(self, model: nn.Module, trainer: Trainer) -> None:
        """Measure `model` as the next operating point, and store it.

        Only here is the test split opened.
        """
        index = len(self.points)
        was_training = model.training
        model.eval()
        fields, rows = measure.cost(model, self.initial(), self.data.shape, index)
        test = self.test(model)
        point = Point(
            index=index,
            final=False,
            epochs=trainer.epochs_spent - self.epochs_before,
            test=test,
            before=self.test(trainer.before.eval()) if trainer.before is not None else None,
            validation=trainer.validate(model),
            worst_class_drop=self.worst_drop(test),
            digest=store.digest(model),
            **fields,
        )
        trainer.before = None
        folder = self.folder / "points" / str(index)
        store.save(model, folder, self.spec.arch, self.data.shape, self.data.classes)
        self.points.append(point)
        self.rows += rows
        self.data.task.keep(model, self.data.test, folder)
        self.watch(f"point {index}: density {point.density:.4f}, test {test}")
        model.train(was_training)

    def test(self, model: nn.Module) -> Outcome:
        """How `model` does on the test split."""
        return self.data.task.evaluate(model, self.data, self.data.test)

    def worst_drop(self, test: Outcome) -> float | None:
        """The largest fall of a class's accuracy against dense.

        None for the dense net itself, and where there are no classes.
        """
        dense = self.dense.points[-1].test if self.dense and self.dense.points else None
        if isinstance(dense, Accuracy) and isinstance(test, Accuracy):
            return measure.worst_class_drop(dense, test)
        return None


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write `rows` as `layers.csv`."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, measure.LAYER_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak on CUDA, the process's resident peak on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
