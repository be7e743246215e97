"""Data sets. Each file here that says `NAMES = (...)` or `PREFIX = "..."` is a family, found so.

A family has one function, `source(name, root) -> bench.data.source.Source`, for the names that it
lists, or for `<prefix>:<folder>`. `load` turns a source into a `Dataset` with a fixed train,
validation and test split. Importing this package loads neither torch nor any family.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.data.source import DataError, Shape, Source

if TYPE_CHECKING:
    import torch

    from bench.data.dataset import Dataset, Split
    from bench.spec import TaskName

BUNDLED = ("digits",)
"""Data sets that need no folder under the root."""


class Found(NamedTuple):
    """Whether a data set is there, and where, or why not and what to do."""

    there: bool
    why: str


def names() -> tuple[str, ...]:
    """All data sets that have a name of their own, sorted; nothing is imported for it."""
    return tuple(sorted(_families()[0]))


def root(config_value: str | Path | None = None) -> Path:
    """The folder of the data sets: the config's, else the one in `BENCH_DATA`, else `data`."""
    return Path(config_value or os.environ.get("BENCH_DATA") or "data").expanduser()


def unknown(name: str) -> str | None:
    """Why there is no data set `name`, whatever lies under a root; none: there may be."""
    known, prefixes = _families()
    prefix, colon, folder = name.partition(":")
    if name in known:
        return None
    if colon and prefix in prefixes:
        size = r"(@[1-9]\d*)?" if prefix == "folder" else ""
        if re.fullmatch(rf"[\w.-]+(/[\w.-]+)*{size}", folder) and ".." not in folder.split("/"):
            return None
        shape = "folder:<name> or folder:<name>@<size>" if size else f"{prefix}:<name>"
        return f"{name!r} is no name of a folder under data_root; write {shape}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    more = ", ".join(f"{p}:<name>" for p in sorted(prefixes))
    return f"unknown data set {name!r}{hint} Known: {', '.join(names())}, {more}"


def load(name: str, root: str | Path, device: str | torch.device = "cpu") -> Dataset:
    """The data set `name` under `root`, checked, on `device`; nothing is downloaded.

    Raises:
        DataError: unknown, missing, truncated or altered; the message says where and what to do.
    """
    source = _source(name, Path(root))
    import torch

    from bench.data.dataset import assemble

    return assemble(source, torch.device(device))


def prepare(name: str, root: str | Path, download: bool = False) -> dict[str, Any]:
    """Check the data set and say what it is (`info`); fetch what is missing only if `download`."""
    source = _source(name, Path(root))
    if download and source.missing():
        source.fetch()
    return info(load(name, root))


def info(dataset: Dataset) -> dict[str, Any]:
    """What a record says of a data set: name, digest, licence, split sizes, shape, classes, task.

    The task is not named where it is classification.
    """
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    task = dataset.task.name
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "licence": dataset.licence,
        "splits": {part: len(split) for part, split in parts.items()},
        "shape": list(dataset.shape),
        "classes": dataset.classes,
        **({} if task == "classification" else {"task": task}),
    }


def describe(root: str | Path) -> dict[str, Found]:
    """Each known data set, and each other under `root`: there or not. Nothing is loaded."""
    root = Path(root)
    listed = list(names())
    for folder in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        if folder.name not in listed and (folder / "SHA256SUMS").exists() and not _layout(folder):
            listed.append(f"arrays:{folder.name}")
        elif _layout(folder):
            listed.append(f"folder:{folder.name}")
    found = {}
    for name in listed:
        reason = missing(name, root)
        where = "bundled with scikit-learn" if name in BUNDLED else f"under {root}"
        found[name] = Found(reason is None, reason or where)
    return found


def missing(name: str, root: str | Path) -> str | None:
    """Why the data set `name` is not under `root`; none: it is. Nothing is loaded."""
    return unknown(name) or _source(name, Path(root)).missing()


def describe_shape(name: str, config_value: str | Path | None = None) -> tuple[Shape, int]:
    """((channels, height, width), classes), not loaded; folders and own arrays must be there."""
    return _source(name, root(config_value)).geometry()


def task_of(name: str) -> TaskName:
    """What the data set `name` asks of a net; it need not be there."""
    return _source(name, root()).task


def _source(name: str, root: Path) -> Source:
    """The source of `name`; a folder of arrays of that name goes before torchvision's files."""
    if reason := unknown(name):
        raise DataError(reason)
    known, prefixes = _families()
    family = known.get(name) or prefixes[name.partition(":")[0]]
    source: Source = importlib.import_module(f"bench.data.{family}").source(name, root)
    if name in known and name not in BUNDLED and (root / name / "SHA256SUMS").exists():
        from bench.data.arrays import Arrays

        return Arrays(name, root, root / name, known=source)
    return source


@cache
def _families() -> tuple[dict[str, str], dict[str, str]]:
    """The modules of all names and of all prefixes, read from the top of every file here."""
    found: dict[str, dict[str, str]] = {"NAMES": {}, "PREFIX": {}}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and (what := ast.unparse(node.targets[0])) in found:
                value = ast.literal_eval(node.value)
                found[what] |= dict.fromkeys([value] if what == "PREFIX" else value, path.stem)
    return found["NAMES"], found["PREFIX"]


def _layout(folder: Path) -> bool:
    """Whether `folder` looks like a folder of images."""
    return (folder / "train").is_dir() and (folder / "val").is_dir()


def __getattr__(name: str) -> Any:
    """`Dataset` and `Split`, once somebody asks for them: they need torch."""
    if name in ("Dataset", "Split"):
        return getattr(importlib.import_module("bench.data.dataset"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DataError",
    "Dataset",
    "Found",
    "Split",
    "describe",
    "describe_shape",
    "info",
    "load",
    "names",
    "prepare",
    "root",
    "task_of",
    "unknown",
]
