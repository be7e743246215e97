"""What the Snakefile asks for: the plan of the chosen suite, in forms that rules can use."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import data, figures, tidy
from bench.plan import Plan, expand
from bench.spec import slug
from bench.suite import ConfigError, read

TABLES = ("runs", "points", "layers", "history", "latency")
FIELD_TABLES = tuple(tidy.FIELD_SORT)
"""The tidy tables; the latter of suites that predict fields."""
PAPER_TABLES = {
    "comparison": "comparison",
    "aggregate": "aggregate",
    "controls": "controls_table",
    "cost": "cost",
    "failures": "failures",
    "wave": "wave_table",
}
"""The tables for people, and the caption of each in bench/report; `wave` in suites of fields."""
KINDS = ("csv", "md", "tex")


@dataclass(frozen=True)
class WorkflowPlan(Plan):
    """A plan with the paths and strings of the workflow."""

    file: str = ""

    @cached_property
    def digest(self) -> str:
        """Changes when any run, or the job that does it, changes."""
        return hashlib.sha256(json.dumps(self.batches, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def batch_json(self) -> dict[str, str]:
        """The specs of each batch as JSON; a change of any makes Snakemake do the batch again."""
        return {
            b: "\n".join(self.runs[r].model_dump_json() for r in runs)
            for b, runs in self.batches.items()
        }

    @cached_property
    def batch_data(self) -> dict[str, tuple[str, ...]]:
        """The slugs of the data sets that each batch reads."""
        return {
            b: tuple(sorted({slug(self.runs[r].dataset) for r in runs}))
            for b, runs in self.batches.items()
        }

    @property
    def latency_json(self) -> str:
        """The latency settings; a change of any measures again."""
        return self.config.latency.model_dump_json() if self.config.latency else ""

    @property
    def data_options(self) -> str:
        """Options of `bench data`."""
        root = f"--root {shlex.quote(self.config.data_root)}" if self.config.data_root else ""
        return root + (" --download" if self.config.download else "")

    @cached_property
    def gpus(self) -> int:
        """GPUs that a job takes: one, where there is one to train on."""
        import torch

        return int(self.config.device != "cpu" and torch.cuda.is_available())

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """The figures that these methods and tasks can fill."""
        return figures.names({spec.method for spec in self.runs.values()}, self.tasks)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """What the data sets ask for."""
        return tuple(sorted({data.task_of(name) for name in self.datasets.values()}))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tidy tables of this suite."""
        return (*TABLES, *(FIELD_TABLES if "field" in self.tasks else ()))

    @property
    def paper_tables(self) -> dict[str, str]:
        """Of `PAPER_TABLES` those that this suite can fill."""
        return {t: c for t, c in PAPER_TABLES.items() if t != "wave" or "field" in self.tasks}

    @property
    def solvers(self) -> tuple[str, ...]:
        """The slugs of the data sets whose simulator is timed: those of fields."""
        if not self.config.latency:
            return ()
        return tuple(
            sorted(s for s, name in self.datasets.items() if data.task_of(name) == "field")
        )

    def timed_batches(self, pair: str) -> list[str]:
        """The batches with the runs that the latency job of `pair` measures."""
        return sorted({self.batch_of[run] for run in self.timed(pair)})


def find(name: str) -> Path:
    """The config file of a suite's name, or of a path to one; `ConfigError` if there is none."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    suites = {file.stem: file for file in sorted((Path(__file__).parent / "config").glob("*.yaml"))}
    if name not in suites:
        known = ", ".join(suites)
        raise ConfigError(f"no suite {name!r}; there are: {known}, or a path to a .yaml")
    return suites[name]


def plan(config: dict[str, Any]) -> WorkflowPlan:
    """The plan of the suite that `--config suite=` names.

    A config that cannot be run ends Snakemake with a message, before any job.
    """
    try:
        if unknown := set(config) - {"suite", "campaign", "source"}:
            raise ConfigError(
                f"--config {', '.join(sorted(unknown))}: only suite= and campaign=, each with a "
                "name or path/to/config.yaml, and source=published/<tag> are known here"
            )
        path = find(str(config.get("suite", "quick")))
        made = expand(read(path))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    return WorkflowPlan(made.config, made.runs, made.needs, str(path))


def campaign(config: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The folder of the campaign that `--config campaign=` names; its subjects' settings as JSON.

    One that cannot be read ends Snakemake with a message.
    """
    from bench.speed import campaign as campaigns

    try:
        made = campaigns.read(campaigns.find(str(config["campaign"])))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    settings = {n: one.part.model_dump_json() for n, one in campaigns.subjects(made).items()}
    return f"results/{made.campaign}", settings


def sources(config: dict[str, Any], results: Path = Path("results")) -> tuple[str, ...]:
    """The folders of `results` with tidy tables that `--config source=` names, or holds.

    They are suites (`tables/points.csv`) and campaigns (`tables/speed.csv`). A source without any
    ends Snakemake with a message.
    """
    name = str(config["source"]).rstrip("/").removeprefix(f"{results}/")
    files = [
        file
        for table in ("points", "speed")
        for depth in ("", "*/")
        for file in (results / name).glob(f"{depth}tables/{table}.csv")
    ]
    if not files:
        known = ", ".join(sorted(path.parent.name for path in results.glob("published/*/tables")))
        sys.exit(f"error: no tidy tables in {results / name}; in {results}/published are: {known}")
    return tuple(sorted({file.parents[1].relative_to(results).as_posix() for file in files}))
