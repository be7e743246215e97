"""The leaderboard page: one HTML file of one or several suites, which works from disk and offline.

Everything is inside: the rows as JSON, the style, the scripts, and the plotting library (packed:
3 MB less). `content` decides what is shown, the scripts only how.
"""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bench.page.columns import FILTERS
from bench.page.content import content
from bench.page.facts import facts
from bench.page.suites import read

FOLDER = Path(__file__).parent
SCRIPTS = ("format", "rows", "table", "details", "axes", "front", "plot", "main")
"""The parts of the page's one script, in an order in which each needs only those before it."""


class PageError(ValueError):
    """Folders that hold nothing the page could show, or two of one name."""


def write(folders: Sequence[Path], out: Path | None = None) -> tuple[Path, list[str]]:
    """Write the page of `folders` to `out`, else to `index.html` in the folder that holds them all.

    Returns the file and, for each folder that was left out, why. `PageError` if all were, or if two
    suites have one name.
    """
    left_out = {folder: why for folder in folders if (why := refusal(folder))}
    shown = [folder for folder in folders if folder not in left_out]
    reasons = [f"{folder}: {why}" for folder, why in left_out.items()]
    if not shown:
        raise PageError("; ".join(reasons))
    names = [folder.resolve().name for folder in shown]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise PageError(f"two folders are called {', '.join(doubled)}; show one, or rename it")
    file = out or Path(os.path.commonpath([folder.resolve() for folder in folders])) / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(html(shown, file.parent), encoding="utf-8")
    temporary.replace(file)
    return file, reasons


def refusal(folder: Path) -> str | None:
    """Why a folder has no place on the page, or None."""
    from bench.speed.publish import holds

    if holds(folder):
        return "a campaign times untrained nets, which have no accuracy"
    if not any((folder / "tables" / f"points.{kind}").exists() for kind in ("parquet", "csv")):
        return "no table of points; make it with `python -m bench collect`"
    return None


def html(folders: Sequence[Path], home: Path) -> str:
    """The page of these suites; its links are relative to `home`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    suites = [read(folder, home) for folder in folders]
    made = content(suites)
    return environment.get_template("template.html.j2").render(
        data=made,
        columns=made["columns"],
        filters=FILTERS,
        facts=facts(suites),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script="\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        plotly=packed_plotly(),
    )


@cache
def packed_plotly() -> str:
    """The plotting library, gzip in base64, without the date that gzip would put in."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
