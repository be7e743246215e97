"""Made-up suites for the leaderboard page, and a page taken apart."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bench import tables, tidy
from bench.collect import collect
from bench.publish import TEXT
from tests import records

HOSTILE = 'magnitude(note=</script><img src=x onerror="boom()">&"\')'
"""A variant that a page must show and not obey; it takes the place of `magnitude`."""


def suite(folder: Path) -> Path:
    """A suite with its runs, tidy tables and tables for people."""
    records.write(folder, records.suite())
    collect(folder)
    tables.write(folder / "tables", folder / "tables")
    return folder


def copy(source: Path, folder: Path, replace: dict[str, str]) -> Path:
    """What is published of `source`: its tables as text alone, with words replaced."""
    (folder / "tables").mkdir(parents=True)
    for file in (file for file in (source / "tables").iterdir() if file.suffix in TEXT):
        text = file.read_text()
        for old, new in replace.items():
            text = text.replace(old, new)
        (folder / "tables" / file.name).write_text(text)
    return folder


def hostile(source: Path, folder: Path) -> Path:
    """A copy in which one variant is called `HOSTILE`."""
    made = copy(source, folder, {})
    for name in ("runs", "points"):
        table = tidy.read(made / "tables", name)
        table.loc[table["variant"] == "magnitude", "variant"] = HOSTILE
        tidy.write(table, made / "tables", name)
    return made


def other(source: Path, folder: Path) -> Path:
    """A copy of one of the nets, timed on another device, where one variant has another pattern."""
    made = copy(source, folder, {"Some CPU": "Other GPU"})
    for name in ("runs", "points", "latency"):
        table = tidy.read(made / "tables", name)
        table = table[table["arch"] == "resnet8"]
        if name == "runs":
            erk = table["variant"] == "magnitude(allocation=erk)"
            table.loc[erk, "params"] = '{"pattern": "2:4"}'
        tidy.write(table, made / "tables", name)
    return made


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts and styles."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[dict[str, str | None], str]] = []
        self.within: str | None = None
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:
        self.within = None

    def handle_data(self, data: str) -> None:
        if self.within in ("script", "style"):
            self.texts.append((self.elements[-1][1], data))

    @property
    def data(self) -> dict[str, Any]:
        """What the scripts read."""
        return json.loads(next(text for attrs, text in self.texts if attrs.get("id") == "data"))

    def table(self, name: str) -> list[dict[str, Any]]:
        """One of the packed tables as records."""
        columns = {
            key: column
            if isinstance(column, list)
            else [None if place is None else column["texts"][place] for place in column["at"]]
            for key, column in self.data[name].items()
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
