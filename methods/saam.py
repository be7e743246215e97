"""SAAM: sparsity-aware adaptive magnitude pruning, one shot, in three zero patterns.

No paper of this name was found: the name comes from a digest of 2023 ("Pruning Deep Neural Networks
for Efficient Inference and Training"), and what follows is the benchmark's own definition of what
that text asks for.

1. Score the weights: s = |w| (mag) or |w dL/dw| on one batch (grad).
2. A layer's level comes from the sparsity of its scores, with the PQ Index I:
   rho_l = (1 - I)^(qp / (q - p)).                                                             (1)
3. d_l = clip(c rho_l^alpha, d_min, 1), c such that the kept weights meet the density;
   alpha = 0 is the fixed level.                                                               (2)
4. unstructured: keep a random set, drawn without replacement with probability proportional to s^b:
   Gumbel top-K of b log s + e. SAAM-U, the default: b = 0, uniformly random; SAAM-W: b = 1;
   SAAM-T: b = infinity, the largest.                                                          (3)
   N:M: N_l = clip(round(d_l M), 1, M) of every M consecutive inputs, the largest; the rounding is
   by largest remainder over the layers, so that the budget is met.                            (4)
   channel: the K_l = max(1, round(d_l C_l)) output channels of largest summed score, coupled
   channels together.                                                                          (5)
5. In recurrent layers each gate is a layer of its own; structured, a hidden unit goes with all its
   gates.

Deviations from the paper: there is none to deviate from. What this definition settles:
- The text's readings are kept apart as U, W and T, never merged.
- It prunes once and trains nothing: its own result is the accuracy before fine-tuning (`before`);
  the fine-tuned accuracy is shown for comparison, since every method gets the same training.
- A level never falls below `least` (d_min), nor below one weight; a density below what that keeps
  is refused.
- The remainder of an input row that N:M does not divide stays dense and is outside the budget.
- For channels the levels are scaled until the density of weights is the requested one, as for
  every channel method here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.sparsity import pq_index, retained
from bench.surgery import Masks, PatternError, PatternName, Uneven, gates, magnitudes, prunable
from bench.surgery import channels as channel
from bench.surgery.allocation import round_counts, water_fill, weight_counts
from bench.surgery.patterns import Pattern, keep_n_of_m, keep_top
from bench.surgery.prune import check, remove_channels
from bench.trainer import Trainer


class Saam(Method):
    """Level per layer from the sparsity of its scores; one shot."""

    family = "adaptive level"
    patterns = ("unstructured", "N:M", "channel")
    citation = "definition of this benchmark (digest of 2023, no paper found)"

    density: Density | Literal["auto"] = Field(
        0.1,
        description="kept fraction of the prunable weights; auto: c = 1, whatever the levels give",
    )
    pattern: PatternName = "unstructured"
    score: Literal["mag", "grad"] = Field("mag", description="|w|, or |w * gradient| on one batch")
    sampling: Literal["uniform", "weighted", "top"] = Field(
        "uniform",
        description="unstructured: b = 0 (SAAM-U), b = 1 (SAAM-W) or b = infinity (SAAM-T)",
    )
    alpha: float = Field(
        1.0, ge=0, description="1: adaptive level; 0: the same level everywhere, the control"
    )
    p: float = Field(0.5, gt=0, description="p of the PQ Index")
    q: float = Field(1.0, gt=0, description="q of the PQ Index, above p")
    least: float = Field(0.01, gt=0, le=1, description="d_min, the smallest level of a layer")
    uneven: Uneven = Field("refuse")
    normalise: bool = Field(
        False, description="channel: divide scores by their layer's mean before they are summed"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Saam:
        if self.p >= self.q:
            raise ValueError(f"p {self.p:g} must be below q {self.q:g}")
        if Pattern.parse(self.pattern).kind not in ("unstructured", "n:m", "channel"):
            raise ValueError(
                f"pattern {self.pattern!r} is none of SAAM's: unstructured, N:M or *:M, channel"
            )
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score, set the levels, prune; then the fine-tuning that all methods share."""
        scores = magnitudes(model)
        if self.score == "grad":
            gradients = trainer.gradients(model)
            scores = {n: s * gradients[n].abs() for n, s in scores.items()}
        pattern = Pattern.parse(self.pattern)
        masks = Masks()
        if pattern.kind == "channel":
            model = self.structured(model, scores, trainer)
        else:
            masks = self.masked(model, scores, pattern, trainer)
            masks.apply_(model)
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    def levels(
        self, scores: dict[str, Tensor], sizes: dict[str, int], density: float | None
    ) -> dict[str, float]:
        """d_l for every entry of `scores`, equations (1) and (2).

        `sizes`, the weights of each entry, weigh them in the budget; without a `density` c = 1.
        """
        rho = {
            n: float(retained(pq_index(s.flatten(), self.p, self.q), self.p, self.q))
            for n, s in scores.items()
        }
        least = {n: max(1 / sizes[n], self.least) for n in scores}
        if density is None:
            return {n: min(1.0, max(least[n], rho[n])) for n in scores}
        return water_fill(
            lambda c: {n: min(1.0, max(least[n], c * rho[n] ** self.alpha)) for n in rho},
            sizes,
            density,
        )

    def masked(
        self, model: nn.Module, scores: dict[str, Tensor], pattern: Pattern, trainer: Trainer
    ) -> Masks:
        """Masks of the unstructured and the N:M patterns.

        Each gate of a recurrent layer has its own level.
        """
        stacked = gates(model)
        parts = {
            f"{n}#{g}": part
            for n, s in scores.items()
            for g, part in enumerate(s.chunk(stacked[n]))
        }
        wanted = None if self.density == "auto" else self.density
        check(model, self.pattern, wanted, self.uneven)
        if pattern.n is not None:
            kept = {n: keep_n_of_m(s, pattern.n, pattern.m) for n, s in parts.items()}
        else:
            sizes = {n: s.numel() for n, s in parts.items()}
            levels = self.levels(parts, sizes, wanted)
            reached = sum(sizes[n] * d for n, d in levels.items()) / sum(sizes.values())
            if wanted is not None and reached > wanted * (1 + 1e-6):
                raise PatternError(
                    f"least = {self.least:g} keeps {reached:.4f} of the weights; "
                    f"density {wanted:g} is below"
                )
            for name, level in levels.items():
                trainer.log("level", layer=name, level=level)
            if pattern.kind == "n:m":
                of = {n: pattern.m for n in parts}
                groups = {n: sizes[n] // pattern.m for n in parts}
                counts = round_counts({n: d * pattern.m for n, d in levels.items()}, of, groups)
                kept = {n: keep_n_of_m(s, counts[n], pattern.m) for n, s in parts.items()}
            else:
                counts = weight_counts(levels, sizes)
                draws = trainer.generator()
                kept = {n: keep_top(self.chance(s, draws), counts[n]) for n, s in parts.items()}
        return Masks({n: torch.cat([kept[f"{n}#{g}"] for g in range(stacked[n])]) for n in scores})

    def chance(self, scores: Tensor, draws: torch.Generator) -> Tensor:
        """Keys whose K largest are the kept weights, equation (3)."""
        if self.sampling == "top":
            return scores
        uniform = torch.rand(scores.shape, generator=draws, dtype=torch.float64).to(scores.device)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        return gumbel if self.sampling == "uniform" else scores.double().log() + gumbel

    def structured(
        self, model: nn.Module, scores: dict[str, Tensor], trainer: Trainer
    ) -> nn.Module:
        """`model` without the channels that (5) removes."""
        weights = prunable(model)
        if self.normalise:
            scores = {n: s / s.mean() for n, s in scores.items()}
        groups = channel.groups(model, trainer.shape)
        layers = {g.name: torch.cat([scores[n].flatten() for n in g.producers]) for g in groups}
        sizes = {g.name: sum(weights[n].numel() for n in g.producers) for g in groups}

        def counts(density: float | None) -> dict[str, int]:
            levels = self.levels(layers, sizes, density)
            return {g.name: max(1, round(levels[g.name] * g.size)) for g in groups}

        if self.density == "auto":
            return remove_channels(model, scores, 1.0, counts(None), trainer.shape)
        return remove_channels(model, scores, self.density, counts, trainer.shape)
