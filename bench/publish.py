"""Publishing a suite: the small text tables, figures, config and environment that live in git."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

TEXT = (".csv", ".md", ".tex")


def publish(suite: Path, to: Path, readme: Path) -> Path:
    """Copy `suite`'s tables and figures to `to`, and its main table into `readme`'s marked block.

    Raises `FileNotFoundError` where the suite has no comparison table yet.
    """
    if not (suite / "tables" / "comparison.md").exists():
        raise FileNotFoundError(f"{suite / 'tables'}: no comparison table; run the suite first")
    for part in ("tables", "figures"):
        shutil.rmtree(to / part, ignore_errors=True)
        (to / part).mkdir(parents=True)
    for file in sorted((suite / "tables").iterdir()):
        if file.suffix in TEXT:  # parquet holds the same numbers, but no diff can be read of it
            shutil.copy(file, to / "tables")
    for file in sorted((suite / "figures").iterdir()):
        shutil.copy(file, to / "figures")
    plan = json.loads((suite / "plan.json").read_text())
    (to / "suite.json").write_text(json.dumps(plan["config"], indent=1) + "\n")
    machines = {
        json.dumps(json.loads((suite / "runs" / run / "record.json").read_text())["environment"])
        for run in plan["runs"]
    }
    found = [json.loads(machine) for machine in sorted(machines)]
    (to / "environment.json").write_text(json.dumps(found, indent=1) + "\n")
    show(readme, to.name, (to / "tables" / "comparison.md").read_text())
    return to


def show(readme: Path, tag: str, comparison: str) -> None:
    """Replace what stands between the markers of `tag` in `readme`, if it has them."""
    text = readme.read_text() if readme.exists() else ""
    block = re.compile(rf"(<!-- table: {tag} -->\n).*?(<!-- end -->)", re.DOTALL)
    if block.search(text):
        shown = first_table(comparison)
        readme.write_text(block.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", text))


def first_table(comparison: str) -> str:
    """The first table of a Markdown page: up to its second heading."""
    parts = re.split(r"(?m)^(?=#+ )", comparison.strip())
    return next(part for part in parts if "|" in part).strip()
