"""What a config may say about latency."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field

from bench.spec import Frozen

HOW = ("seconds_per_cell", "compile", "cold", "energy_seconds")


class LatencyConfig(Frozen):
    """The `latency` section of a config."""

    @property
    def digest(self) -> str:
        """Changes when a row would be measured differently; other rows may be asked for."""
        own = {name: getattr(self, name) for name in HOW}
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()[:8]

    devices: tuple[Literal["cpu", "cuda", "auto"], ...] = Field(
        ("auto",),
        min_length=1,
        description="where to measure; auto: cuda if there is one, else cpu",
    )
    dtypes: tuple[Literal["fp32", "tf32", "fp16", "bf16"], ...] = Field(
        ("fp32", "bf16"),
        min_length=1,
        description="each is compared to the dense net in the same dtype; tf32, fp16: on GPUs",
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 32), min_length=1, description="samples per call"
    )
    threads: tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...] = Field(
        (1, "all"),
        min_length=1,
        description="CPU only: threads per call; all: every core of the process",
    )
    seconds_per_cell: float = Field(
        0.3, gt=0, description="timed seconds per row, the dense calls paired with it included"
    )
    compile: bool | Literal["default"] = Field(
        False,
        description="try torch.compile on both sides, with its search for fast kernels (minutes a "
        "net on a GPU), or in its default mode; first calls are not timed",
    )
    paths: tuple[str, ...] = Field(
        ("dense", "masked_dense"),
        min_length=1,
        description="execution paths: files of bench/kernels",
    )
    baselines: tuple[str, ...] = Field(
        (), description="more paths on which the unpruned net competes, and no pruned net is timed"
    )
    restarts: int = Field(
        1, ge=1, description="fresh processes whose results are pooled; a win needs three"
    )
    cold: bool = Field(
        False, description="time calls with cold caches, too; for layers, nets run warm"
    )
    energy_seconds: float = Field(
        0, ge=0, description="GPU: seconds of calls for the energy of one; 0: not measured"
    )
