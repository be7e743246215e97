"""What papers claim: the schema of `claims.yaml`, read with errors that name file, claim and key.

A claim holds what a paper says and how our records answer it, never a measured number or a verdict.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bench.method import names
from bench.spec import Frozen
from bench.suite import ConfigError, load_yaml, parse

FILE = Path(__file__).with_name("claims.yaml")
NO_NUMBER = "no number"
SECTIONS = ("sources", "baselines")

Densities = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]


class ClaimError(ConfigError):
    """A claim that is wrong in the file, or that asks for what is not published; names the key."""


class Measurement(Frozen):
    """Which published runs answer a claim; each density is a check of its own."""

    suite: str = Field(description="folder in results/published")
    variant: str = Field(description="row label there")
    densities: Densities | Literal["end"] = Field(
        description="those asked for; `end`: the last point of each run, whatever its density"
    )
    label: str = Field("", description="tells its checks from the claim's other ones")


class Bounded(Measurement):
    """What is measured is claimed to lie on one side of a number."""

    above: float | None = Field(None, description="claimed: larger than this")
    below: float | None = Field(None, description="claimed: smaller than this")

    @model_validator(mode="after")
    def _one_bound(self) -> Bounded:
        known = [key for key in ("above", "below", "within") if key in type(self).model_fields]
        if sum(getattr(self, key) is not None for key in known) != 1:
            raise ValueError(f"give one of {', '.join(known)}")
        return self


class Gap(Bounded):
    """Variant minus another one, paired by seed: points of the suite's measure."""

    kind: Literal["gap"]
    minus: str | None = Field(None, description="row label; `dense`: the net each run started from")
    control: Literal["magnitude", "random"] | None = Field(
        None, description="instead of `minus`: the variant's own control"
    )
    column: Literal["value", "value_before", "top5"] = Field(
        "value", description="of bench.tables.cells; value_before: as pruned, before fine-tuning"
    )
    within: float | None = Field(None, gt=0, description="claimed: no more than this apart")

    @model_validator(mode="after")
    def _one_other(self) -> Gap:
        if (self.minus is None) == (self.control is None):
            raise ValueError("give one of minus, control")
        return self

    @property
    def other(self) -> str:
        """The row label of what is subtracted."""
        return self.minus or f"{self.control}(like={self.variant})"


class Value(Bounded):
    """A ratio to the dense net, one number per seed."""

    kind: Literal["value"]
    column: Literal["parameter_ratio", "compression", "theoretical_speedup", "bop_reduction"]


Spent = Literal[
    "seconds_pretrain", "seconds_score", "seconds_prune", "seconds_finetune", "epochs", "samples"
]


class Cost(Bounded):
    """What a run spent over what another variant's spent, paired by seed."""

    kind: Literal["cost"]
    over: str = Field(description="row label; `dense`: dense training")
    columns: tuple[Spent, ...] = Field(min_length=1, description="of runs; their sum counts")
    per: Literal["run", "epoch"] = "run"


class Event(Bounded):
    """A column of a method's own lines in `history`, reduced to a number per run."""

    kind: Literal["event"]
    event: str
    column: str
    reduce: Literal["sum", "mean", "last"] = Field(description="over the lines of a run")
    per: str | None = Field(None, description="a column to divide by, reduced alike")
    inverse: bool = Field(False, description="one over it")
    unit: Literal["share", "times"]


class Shape(Measurement):
    """How a column of `history` goes from round to round; each phase is a check."""

    kind: Literal["shape"]
    event: str
    column: str
    layer: str = "all"
    phases: tuple[Literal["falls", "rises"], ...] = Field(min_length=1)


class Correlation(Bounded):
    """How two columns of an event go together within a run, all its lines pooled."""

    kind: Literal["correlation"]
    event: str
    columns: tuple[str, str]
    statistic: Literal["pearson", "spearman"]


class Exact(Measurement):
    """What every layer of every net has to satisfy, by its count of weights."""

    kind: Literal["exact"]
    rule: Literal["equal_rows", "no_empty_layer"] = Field(
        description="equal_rows: the count is a multiple of the layer's outputs"
    )


class Speedup(Bounded):
    """Measured times faster than the fastest dense net; the interval is over repetitions."""

    kind: Literal["speedup"]
    batch: int | None = Field(None, ge=1, description="none: that of the comparison table")
    of: Literal["dense", "theory"] = Field(
        "dense", description="theory: over the ratio of multiply-adds"
    )


KINDS = (Gap, Value, Cost, Event, Shape, Correlation, Exact, Speedup)
Measure = Annotated[
    Gap | Value | Cost | Event | Shape | Correlation | Exact | Speedup, Field(discriminator="kind")
]


class Claim(Frozen):
    """One claim of one paper."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="never changes once published")
    title: str = Field(max_length=52, description="the claim in a few words, for figures")
    claim: str = Field(description="the claim in one sentence")
    source: str = Field(min_length=4, description="citation, and where it says so")
    evidence: Literal["verified", "second hand", "from memory", "no paper"] = Field(
        description="how we know that it says so; see the head of claims.yaml"
    )
    reported: str = Field(min_length=1, description="the paper's number, or `no number`")
    paper: str = Field(min_length=1, description="the net and data that the claim is about")
    note: str = Field("", description="what a reader of the row should know")
    measure: tuple[Measure, ...] = Field((), description="how our records answer it")
    untested: str | None = Field(None, description="what it would take to answer it")
    untestable: str | None = Field(None, description="why it cannot be answered here")

    @model_validator(mode="after")
    def _consistent(self) -> Claim:
        ways = [bool(self.measure), self.untested is not None, self.untestable is not None]
        if sum(ways) != 1:
            raise ValueError("give one of measure, untested, untestable")
        if self.evidence == "from memory" and not self.reported.startswith(NO_NUMBER):
            raise ValueError(f"what is from memory quotes {NO_NUMBER!r}, not {self.reported!r}")
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
