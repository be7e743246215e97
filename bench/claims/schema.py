"""What papers claim: the schema of `claims.yaml`, read with errors that name file, claim and key.

A claim holds what a paper says and how our records answer it, never a measured number or a verdict.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bench.claims.measurements import KINDS, Gap, Measure
from bench.claims.verdict import Relation
from bench.method import names
from bench.spec import Frozen
from bench.suite import ConfigError, load_yaml, parse

FILE = Path(__file__).with_name("claims.yaml")
NO_NUMBER = "no number"
SECTIONS = ("sources", "baselines")

Evidence = Literal["verified", "second hand", "from memory", "no paper"]


class ClaimError(ConfigError):
    """A claim that is wrong in the file, or that asks for what is not published; names the key."""


class Claim(Frozen):
    """One claim of one paper."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="never changes once published")
    title: str = Field(max_length=52, description="the claim in a few words, for figures")
    claim: str = Field(description="the claim in one sentence")
    source: str = Field(min_length=4, description="citation, and where it says so")
    evidence: Evidence = Field(
        description="how we know that it says so; see the head of claims.yaml"
    )
    number: Evidence | None = Field(
        None, description="how we know the reported number, where that is another matter"
    )
    ours: Literal["reading", "question"] | None = Field(
        None,
        description="reading: the bound, or what it is compared to, is ours; question: the paper "
        "does not claim it, this benchmark asks",
    )
    reported: str = Field(min_length=1, description="the paper's number, or `no number`")
    paper: str = Field(min_length=1, description="the net and data that the claim is about")
    note: str = Field("", description="what a reader of the row should know")
    mechanism: bool = Field(
        False, description="holds by construction or by a knob: that it does is no finding"
    )
    best_case: bool = Field(
        False, description="a best case over many nets, which one net cannot refute"
    )
    relation: Relation = Field("each", description="of its checks; see bench.claims.verdict")
    measure: tuple[Measure, ...] = Field((), description="how our records answer it")
    untested: str | None = Field(None, description="what it would take to answer it")
    untestable: str | None = Field(None, description="why it cannot be answered here")

    @model_validator(mode="after")
    def _consistent(self) -> Claim:
        ways = [bool(self.measure), self.untested is not None, self.untestable is not None]
        if sum(ways) != 1:
            raise ValueError("give one of measure, untested, untestable")
        if self.measure and all(one.beside for one in self.measure):
            raise ValueError("measure: all of it is beside, nothing makes the verdict")
        known = self.number or self.evidence
        if known == "from memory" and not self.reported.startswith(NO_NUMBER):
            raise ValueError(f"what is from memory quotes {NO_NUMBER!r}, not {self.reported!r}")
        gaps = (one for one in self.measure if isinstance(one, Gap))
        if any(one.sizes == "unequal" for one in gaps) and not self.note:
            raise ValueError("note: say why sizes are unequal")
        return self


class Entry(NamedTuple):
    """A claim with its place in the file."""

    section: str
    method: str
    claim: Claim


def read(path: Path = FILE) -> tuple[Entry, ...]:
    """The claims in `path`, in its order; `ConfigError` says file, claim and key of what is wrong.

    The file maps sections to methods to lists of claims.
    """
    found: dict[str, Entry] = {}
    for section, method, content in listed(load_yaml(path), path):
        said = content.get("id") if isinstance(content, dict) else None
        claim = parse(Claim, content, f"{path.name}: {said or method}", *KINDS)
        if claim.id in found:
            raise ClaimError(f"{path.name}: {claim.id}: two claims have this id")
        found[claim.id] = Entry(section, method, claim)
    return tuple(found.values())


def listed(content: Any, path: Path) -> Iterator[tuple[str, str, Any]]:
    """(section, method, claim as parsed) of each claim in the file's content."""
    if not isinstance(content, dict):
        raise ClaimError(f"{path.name}: is no mapping of {', '.join(SECTIONS)}")
    for section, methods in content.items():
        pick(section, SECTIONS, f"{path.name}: no section")
        for method, claims in (methods or {}).items():
            pick(method, names(), f"{path.name}: {section}: no method")
            for claim in claims or ():
                yield section, method, claim


def pick(name: str, there: Iterable[str], missing: str) -> None:
    """Raise `ClaimError`, `missing` and what was perhaps meant, if `name` is not `there`."""
    if name in (known := list(there)):
        return
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    raise ClaimError(f"{missing} {name!r}; {hint}")
