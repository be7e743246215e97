"""The commands behind `python -m bench`; each imports what it needs when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.spec import RunSpec

RESULTS = Path("results")


def expected() -> tuple[type[Exception], ...]:
    """Exceptions that are the user's to mend: shown as one message, without a traceback."""
    return (ValueError, FileNotFoundError)


def plan(suite: str, summary: bool) -> None:
    """Expand a config into its runs, jobs and dependencies, as JSON on standard output."""
    from bench.plan import expand
    from bench.suite import read
    from bench.workflow import find

    made = expand(read(find(suite)))
    if summary:
        runs, jobs, pairs = len(made.runs), len(made.batches), len(made.pairs)
        print(f"suite {made.config.suite}: {runs} runs in {jobs} jobs, {pairs} pairs")
        for variant in sorted({spec.variant for spec in made.runs.values()}):
            print(f"  {sum(s.variant == variant for s in made.runs.values()):6d}  {variant}")
        return
    content = {
        "config": made.config.model_dump(mode="json"),
        "runs": {
            run: spec.model_dump(mode="json", exclude_defaults=True)
            for run, spec in made.runs.items()
        },
        "batches": made.batches,
        "timed": {pair: made.timed(pair) if made.config.latency else () for pair in made.pairs},
        "pairs": made.pairs,
    }
    json.dump(content, sys.stdout, indent=1)


def data(name: str, root: str | None, download: bool) -> None:
    """Check a data set's files against their checksums; print what it is as JSON."""
    from bench import data as datasets

    json.dump(datasets.prepare(name, datasets.root(root), download=download), sys.stdout, indent=1)
    print()


def run(suite: str | None, plan: str | None, batch: str | None, only: str, threads: int) -> int:
    """Do runs one after the other; those that have a record are left alone.

    In the workflow: `--plan results/x/plan.json --batch NAME`. By hand: a suite, and `--only` a
    prefix of run ids.
    """
    import torch

    from bench import data as datasets
    from bench.latency.machine import flushed
    from bench.lease import locked
    from bench.plan import expand
    from bench.progress import watcher
    from bench.run import run as do
    from bench.suite import read
    from bench.workflow import find

    torch.set_num_threads(threads)
    if plan:
        content = json.loads(Path(plan).read_text())
        config = content["config"]
        specs = [
            RunSpec.model_validate(content["runs"][r])
            for r in (content["batches"][batch] if batch else content["runs"])
        ]
    elif suite:
        made = expand(read(find(suite)))
        config = made.config.model_dump()
        chosen = {need for r in made.runs if r.startswith(only) for need in (*made.needs[r], r)}
        specs = [spec for r, spec in made.runs.items() if r in chosen]
        if not specs:
            raise ValueError(f"suite {suite!r} has no run whose id starts with {only!r}")
    else:
        raise ValueError("give a suite, or --plan and --batch")
    folder = RESULTS / config["suite"]
    digests = {}
    root, device = datasets.root(config["data_root"]), config["device"]
    for number, spec in enumerate(specs, 1):
        with (
            watcher(f"[{number}/{len(specs)}] {spec.id}") as watch,
            locked(folder / "locks" / spec.id),
            flushed(),
        ):
            record = do(spec, folder, root, device, watch)
        digests[spec.id] = {"status": record.status, "points": [p.digest for p in record.points]}
    json.dump(digests, sys.stdout, indent=1)
    print()
    return 0


def latency(plan: str, pair: str) -> None:
    """Time all points of a pair against the dense net; nothing else should run on the machine."""
    from bench import data as datasets
    from bench import latency as timing
    from bench.latency.config import LatencyConfig

    content, folder = load_plan(plan)
    arch, dataset = content["pairs"][pair]
    config, root = content["config"], datasets.root(content["config"]["data_root"])
    wanted = LatencyConfig(**config["latency"])
    timing.run(folder, dataset, arch, content["timed"][pair], wanted, root)


def solver(plan: str, dataset: str) -> None:
    """Time the simulator behind a data set of fields; nothing else should run on the machine."""
    from bench.latency.solver import run

    run(load_plan(plan)[1], dataset)


def load_plan(plan: str) -> tuple[dict[str, Any], Path]:
    """(content of plan.json, the suite's folder)."""
    return json.loads(Path(plan).read_text()), Path(plan).parent


def kernels() -> None:
    """List the execution paths that latency can be measured on."""
    import importlib

    from bench import kernels as paths

    for name in paths.names():
        kernel, about = paths.load(name), importlib.import_module(f"bench.kernels.{name}").__doc__
        where = "; ".join(f"{on} {'/'.join(dtypes)}" for on, dtypes in kernel.dtypes.items())
        print(f"{name:16s} {where:30s} {(about or '').strip().splitlines()[0]}")


def speed(campaign: str, step: str | None, subject: str | None) -> None:
    """Time untrained nets and layers, pruned in every pattern, on all paths; write results/<name>.

    Times that were measured already are kept. Nothing else should run on the machine.
    """
    from bench.speed.run import run

    for line in run(campaign, RESULTS, step, subject):
        print(line, flush=True)


def tune(campaign: str) -> None:
    """Search the block-sparse kernel's parameters, for bench/kernels/tuned/<device>.json."""
    from bench.speed.tune import tune as search

    for key in search(campaign):
        print(key, flush=True)


def regress(old: str, new: str) -> int:
    """Compare two campaigns' speed-ups; exit code 1 where one fell by more than measured noise."""
    import pandas as pd

    from bench.speed.regress import regressions

    found = regressions(*(pd.read_csv(Path(f) / "tables" / "speed.csv") for f in (old, new)))
    print(found.to_string(index=False) if len(found) else "no path has become slower")
    return int(len(found) > 0)


def collect(plan: str) -> None:
    """Gather the records of the plan's runs into tidy tables (parquet and CSV)."""
    from bench.collect import collect as gather

    content, folder = load_plan(plan)
    gather(folder, content["runs"])


def track(plan: str, uri: str | None) -> None:
    """Mirror the records of the plan's runs in MLflow; done twice, it changes nothing."""
    from bench.track import track as mirror

    content, folder = load_plan(plan)
    json.dump(mirror(folder, uri, content["runs"]), sys.stdout, indent=1)
    print()


def tables(folder: str) -> None:
    """Write the comparison tables (CSV, Markdown, LaTeX) of the tidy tables in FOLDER/tables."""
    from bench.speed.publish import holds
    from bench.tables import write

    if holds(Path(folder)):
        from bench.speed.table import write as campaign  # needs torch, which suites' tables do not

        campaign(Path(folder))
        return
    write(Path(folder) / "tables", Path(folder) / "tables")


def figures(folder: str, only: str | None) -> None:
    """Draw the figures (PDF, PNG) of the tables in FOLDER/tables into FOLDER/figures."""
    from bench import figures as drawn
    from bench import tidy
    from bench.speed.publish import holds
    from bench.tables import measures

    if holds(Path(folder)):
        from bench.speed.figures import draw

        draw(Path(folder))
        return
    tables = Path(folder) / "tables"
    names: tuple[str, ...] = (only,) if only else ()
    if not only:
        runs = tidy.read(tables, "runs")
        names = drawn.names(runs["method"], measures.tasks(runs))
    for name in names:
        drawn.draw(name, tables, Path(folder) / "figures")


def publish(folder: str, tag: str, add: bool) -> None:
    """Copy what a reader needs to results/published/TAG, and show its table in README.md.

    Of a suite or a campaign: tidy tables and tables for people as text, figures, the config, and
    the machine's environment. With `--add` the runs that TAG lacks join those it has.
    """
    from bench.publish import publish as copy
    from bench.speed.publish import holds
    from bench.speed.publish import publish as campaign

    to = RESULTS / "published" / tag
    if holds(Path(folder)):
        if add:
            raise ValueError("a campaign is published whole; --add is for suites")
        campaign(Path(folder), to)
    else:
        copy(Path(folder), to, Path("README.md"), add)
    print(f"{to}: {sum(f.stat().st_size for f in to.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def estimate(suite: str, cores: int | None) -> None:
    """Predict the time of a suite from the records of all suites in results/."""
    from bench.estimate import report
    from bench.plan import expand
    from bench.suite import read
    from bench.workflow import find

    print(report(expand(read(find(suite))), RESULTS, cores))


def methods() -> None:
    """List every method file: family, patterns, start and citation."""
    from bench.method import load, names

    rows = [
        (n, c.family, ", ".join(c.patterns) or "-", c.start, c.citation)
        for n in names()
        for c in [load(n)]
    ]
    header = ("method", "family", "patterns", "start", "citation")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(5)]
    for row in [header, *rows]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def doctor(root: str | None) -> int:
    """Say what this machine has, what is missing, and what cannot work here and why."""
    from bench.doctor import examine

    return examine(root)


def new_method(name: str) -> None:
    """Write methods/NAME.py, a complete method to change; it passes the contract suite as it is."""
    import re

    from bench.method import folder

    file = folder() / f"{name}.py"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r}: a method's name is lower-case letters, digits and underscores")
    if file.exists():
        raise ValueError(f"{file.name} exists in methods/ already")
    template = (Path(__file__).parent / "report" / "new_method.py.txt").read_text()
    title = "".join(part.capitalize() for part in name.split("_"))
    file.write_text(template.replace("{name}", name).replace("{class}", title))
    print(f"methods/{name}.py written; now: pytest tests/test_contract.py -k {name}")


def schema() -> None:
    """Write bench/config/schema.json from the models in bench/suite.py."""
    from bench.suite import Config

    file = Path(__file__).parent / "config" / "schema.json"
    file.write_text(json.dumps(Config.model_json_schema(), indent=1) + "\n")


def deviations() -> None:
    """Write results/published/deviations.md from the methods' docstrings."""
    from bench.deviations import table

    (RESULTS / "published" / "deviations.md").write_text(table())


def explain(folder: str, table: str, row: str, column: str) -> None:
    """Print what is behind a cell: runs, seeds, values, commits, devices, timings."""
    from bench.explain import explain as tell

    print(tell(Path(folder), table, row, column))


def page(folders: list[str], out: str | None) -> None:
    """Write the leaderboard, one HTML file that works offline, from the tidy tables of the folders.

    Campaigns, and folders without tables, are left out, and it says so.
    """
    from bench.page import write

    file, left_out = write([Path(folder) for folder in folders], Path(out) if out else None)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def claims(published: str) -> None:
    """Write the scorecard, what papers claim beside what was measured, into PUBLISHED/scorecard.

    Its first table goes into README.md, if PUBLISHED is the project's own.
    """
    from bench.claims import write
    from bench.publish import show

    for file in write(Path(published)):
        print(file)
        if file.suffix == ".md" and Path(published) == RESULTS / "published":
            show(Path("README.md"), file.stem, file.read_text(encoding="utf-8"))
