"""What a run is and what it leaves behind: frozen, validated value objects and the run's identity.

Pure Python and pydantic: importing this module loads neither torch nor any method.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL = 1
"""Version of the measuring protocol; part of every run id, and tables refuse to mix two of them."""


TaskName = Literal["classification", "field"]
"""What a data set asks of a net; `bench.data.task` says how it is trained and judged."""


class Frozen(BaseModel):
    """A value object: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="constants"
    )


class Recipe(Frozen):
    """How one call of `Trainer.fit` trains."""

    epochs: float = Field(
        10, ge=0, description="passes over the training split (fractions count in steps)"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="the optimiser")
    lr: float = Field(0.05, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd, beta1 of adam and adamw")
    nesterov: bool = Field(True, description="Nesterov momentum (sgd only)")
    weight_decay: float = Field(
        5e-4, ge=0, description="L2 penalty (sgd, adam) or decoupled decay (adamw)"
    )
    batch_size: int = Field(
        128, ge=1, description="samples per step; the last, short batch is dropped"
    )
    schedule: Literal["constant", "cosine", "step"] = Field(
        "cosine", description="learning-rate schedule, by step"
    )
    milestones: tuple[float, ...] = Field(
        (0.5, 0.75),
        description="step schedule: fractions of the training after which lr is multiplied by "
        "gamma",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="step schedule: the factor at each milestone")
    warmup: float = Field(0, ge=0, description="epochs of linear warm-up")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; none: no clipping")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: autocast, weights stay fp32"
    )
    channels_last: bool = Field(False, description="NHWC memory format for images and convolutions")
    compile: bool = Field(False, description="torch.compile the forward pass")
    augment: tuple[Literal["crop", "flip", "noise"], ...] = Field(
        (),
        description="crop: random crop after 4 pixels of reflect padding; "
        "flip: random horizontal flip; noise: on the frames of a field, 0.05 of their deviation",
    )
    label_smoothing: float = Field(0, ge=0, lt=1, description="mass spread over the other classes")


class RunSpec(Frozen):
    """Everything that decides the result of one run."""

    method: str
    method_version: int = 1
    params: dict[str, Any] = Field(
        default_factory=dict, description="the method's validated, non-default fields"
    )
    arch: str
    dataset: str
    tier: Literal["equal", "paper"] = "equal"
    train: Recipe = Recipe()
    finetune: Recipe | None = Field(
        None, description="schedule beyond the shared dense start; none for `dense`"
    )
    seed: int = Field(0, ge=0)
    densities: tuple[float, ...] = Field(
        (),
        description="the operating points asked of a run that yields a curve; "
        "its budget pays for each",
    )
    like: str | None = Field(
        None, description="a control: id of the run whose layer densities it copies"
    )
    weights: str | None = Field(
        None, description="local checkpoint that replaces the random initial weights"
    )
    protocol: int = PROTOCOL
    variant: str = Field("", description="row label in tables; not part of the identity")

    @property
    def id(self) -> str:
        """`<method>-<arch>-<dataset>-s<seed>-<8 hex>`.

        The hash covers every non-default field but `variant`.
        """
        content = self.model_dump(mode="json", exclude={"variant"}, exclude_defaults=True)
        content["protocol"] = self.protocol
        digest = hashlib.sha256(
            json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
        return f"{self.method}-{slug(self.arch)}-{slug(self.dataset)}-s{self.seed}-{digest[:8]}"


def slug(name: str) -> str:
    """`name` as a file name, a wildcard or a tag can hold it: a dot for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", ".", name).strip(".")


class Accuracy(Frozen):
    """Of one model on one split. Fractions in [0, 1]; loss in nats."""

    top1: float
    top5: float | None = Field(None, description="none where there are five classes or fewer")
    loss: float
    ece: float = Field(description="expected calibration error, 15 equal-width bins")
    per_class: tuple[float, ...]
    samples: int

    @property
    def score(self) -> float:
        """The number that choices compare, of any task; higher is better."""
        return self.top1

    def __str__(self) -> str:
        """For a line of progress."""
        return f"{100 * self.top1:.2f} %"


class FieldError(Frozen):
    """Of one model's predictions of a field on one split, relative to the field's own norm."""

    relative_l2: float = Field(description="one step ahead, mean over the frames")
    rollout: tuple[float, ...] = Field(
        description="after 1, 2, ... steps fed with own predictions, mean over the trajectories"
    )
    loss: float = Field(description="mean squared error of the normalised field")
    samples: int

    @property
    def score(self) -> float:
        """See `Accuracy`; 1 for the truth, 0 for a prediction of nothing."""
        return 1 - self.relative_l2

    def __str__(self) -> str:
        """See `Accuracy`."""
        return f"error {100 * self.relative_l2:.2f} %"


Outcome = Accuracy | FieldError


class Point(Frozen):
    """One operating point: a model that a method yielded, as the harness measured it."""

    index: int
    final: bool = Field(description="the last point of its run; the one at the requested density")
    density: float = Field(description="non-zero / all prunable weights of the dense net")
    parameters: int = Field(description="stored parameters, all kinds")
    nonzeros: int = Field(description="non-zero parameters, all kinds")
    bits: int = Field(description="on disk: per tensor the smallest of dense, CSR and bitmap")
    bits_format: dict[str, int] = Field(
        description="bits if every weight tensor used one format: dense, csr, bitmap"
    )
    macs: int = Field(
        description="multiply-adds of the stored (possibly shrunk) net for one sample"
    )
    effective_macs: int = Field(description="multiply-adds with non-zero weights")
    bops: int | None = Field(
        None,
        description="bit operations: effective multiply-adds, each times the bits of its weight "
        "and of its activation; none, as the next two, in records that are older than they",
    )
    weight_bits: float | None = Field(
        None, description="of a non-zero prunable weight, mean, from its values"
    )
    activation_bits: float | None = Field(
        None, description="of what weights are multiplied with, mean over effective multiply-adds"
    )
    epochs: float = Field(description="epochs spent beyond the start, up to this point")
    test: Outcome
    before: Outcome | None = Field(
        None, description="on test after pruning, before the last fine-tuning"
    )
    validation: Outcome
    worst_class_drop: float | None = Field(
        None, description="largest fall of a class's accuracy against dense"
    )
    digest: str = Field(description="sha256 over the names and bytes of all tensors")


class Spent(Frozen):
    """One line of the ledger."""

    phase: Literal["pretrain", "score", "prune", "finetune"]
    epochs: float = 0
    samples: int = 0
    seconds: float = 0


class Record(Frozen):
    """What a finished run says of itself (`record.json`)."""

    id: str
    spec: RunSpec
    status: Literal["ok", "failed"]
    reason: str | None = None
    dense: str | None = Field(
        None, description="id of the dense run it started from, or is compared to"
    )
    points: tuple[Point, ...] = ()
    ledger: tuple[Spent, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict)
    dataset: dict[str, Any] = Field(
        default_factory=dict, description="digest, licence, split sizes, shape, classes"
    )
    initial: str | None = Field(None, description="digest of the weights before any training")
    started: str = ""
    seconds: float = 0
    peak_memory: int = Field(
        0, description="bytes: device peak on CUDA, resident peak of the process on CPU"
    )

    @property
    def operating_points(self) -> tuple[Point, ...]:
        """The points that stand for what was asked of the run, each once.

        The last one; of a curve also the one nearest, in ratio, to each requested density but the
        lowest. Controls copy these, and latency is measured on them.
        """
        if not self.points:
            return ()
        chosen = {self.points[-1].index}
        for wanted in sorted(self.spec.densities)[1:]:
            gaps = [abs(math.log(max(p.density, 1e-9) / wanted)) for p in self.points]
            chosen.add(gaps.index(min(gaps)))
        return tuple(self.points[index] for index in sorted(chosen))
