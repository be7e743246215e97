"""Publishing a suite: the small text tables, figures, config and environment that live in git."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TEXT = (".csv", ".md", ".tex")


def publish(suite: Path, to: Path, readme: Path, add: bool = False) -> Path:
    """Copy `suite`'s tables and figures to `to`, and its main table into `readme`'s marked block.

    `add`: what `to` holds already stays, and the suite's further runs join it (`bench.extend`).

    Raises `FileNotFoundError` where the suite has no comparison table yet.
    """
    if not (suite / "tables" / "comparison.md").exists():
        raise FileNotFoundError(f"{suite / 'tables'}: no comparison table; run the suite first")
    plan = json.loads((suite / "plan.json").read_text())
    config, machines = plan["config"], environments(suite, plan["runs"])
    with TemporaryDirectory() as scratch:
        source = suite
        if add:
            from bench.extend import extend

            source = extend(to / "tables", suite / "tables", Path(scratch))
            old = json.loads((to / "suite.json").read_text())
            config = old | {"methods": old["methods"] | config["methods"]}
            machines = unique(json.loads((to / "environment.json").read_text()) + machines)
        copy(source, to)
    (to / "suite.json").write_text(json.dumps(config, indent=1) + "\n")
    (to / "environment.json").write_text(json.dumps(machines, indent=1) + "\n")
    show(readme, to.name, (to / "tables" / "comparison.md").read_text())
    return to


def copy(source: Path, to: Path) -> None:
    """The text tables and the figures of `source`, in the place of those of `to`."""
    for part in ("tables", "figures"):
        shutil.rmtree(to / part, ignore_errors=True)
        (to / part).mkdir(parents=True)
    for file in sorted((source / "tables").iterdir()):
        if file.suffix in TEXT:  # parquet holds the same numbers, but no diff can be read of it
            shutil.copy(file, to / "tables")
    for file in sorted((source / "figures").iterdir()):
        shutil.copy(file, to / "figures")


def environments(suite: Path, runs: list[str]) -> list[dict[str, Any]]:
    """The distinct environments that the records of `runs` tell of."""
    records = (json.loads((suite / "runs" / run / "record.json").read_text()) for run in runs)
    return unique([record["environment"] for record in records])


def unique(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once, in an order that depends on nothing but their content."""
    return [json.loads(text) for text in sorted({json.dumps(one) for one in found})]


def show(readme: Path, tag: str, comparison: str) -> None:
    """Replace what stands between the markers of `tag` in `readme`, if it has them."""
    text = readme.read_text() if readme.exists() else ""
    block = re.compile(rf"(<!-- table: {tag} -->\n).*?(<!-- end -->)", re.DOTALL)
    if block.search(text):
        shown = first_table(comparison)
        readme.write_text(block.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", text))


def first_table(comparison: str) -> str:
    """The first table of a Markdown page, up to its second heading, without the rows of controls.

    They are two for each method, and the page has them.
    """
    parts = re.split(r"(?m)^(?=#+ )", comparison.strip())
    table = next(part for part in parts if "|" in part).strip()
    return re.sub(r"(?m)^\| \*Controls .*\n(\|.*\n)*", "", table)
