"""How records can answer a claim: the schema of each kind of measurement in `claims.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bench.spec import Frozen

Densities = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]


class Measurement(Frozen):
    """Which published runs answer a claim; each density is a check of its own."""

    suite: str = Field(description="folder in results/published")
    variant: str = Field(description="row label there")
    densities: Densities | Literal["end", "before end"] = Field(
        description="those asked for; `end`: the last point of each run, whatever its density; "
        "`before end`: the last but one"
    )
    label: str = Field("", description="tells its checks from the claim's other ones")
    beside: bool = Field(False, description="shown for comparison, without a say in the verdict")


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
    control: Literal["magnitude", "random", "scratch"] | None = Field(
        None, description="instead of `minus`: the variant's own control"
    )
    column: Literal["value", "value_before", "top5"] = Field(
        "value", description="of bench.tables.cells; value_before: as pruned, before fine-tuning"
    )
    within: float | None = Field(None, gt=0, description="claimed: no more than this apart")
    equal: Literal["weights", "macs"] = Field(
        "weights",
        description="what both sides have alike; macs: the other one is read off, between its "
        "densities, where it has as many multiply-adds",
    )
    sizes: Literal["equal", "unequal"] = Field(
        "equal", description="unequal: the sides may differ in density; a note says why"
    )

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
    column: Literal[
        "parameter_ratio", "compression", "theoretical_speedup", "bop_reduction",
        "channel_bop_reduction",
    ] = Field(
        description="of points; channel_bop_reduction: kept weights that are rounded to zero count"
    )  # fmt: skip


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
    reduce: Literal["sum", "mean", "last", "last but one"] = Field(
        description="over the lines of a run"
    )
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
    least: float = Field(gt=0, description="a change smaller than this is none")


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
