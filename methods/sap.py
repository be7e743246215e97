"""SAP: sparsity-informed adaptive pruning, driven by the PQ Index.

Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective", ICLR 2023.

For t = 0, 1, ... in every unit of the scope (a neuron's weights, a layer's, or all), over its d_t
unpruned weights:
1. I = 1 - d^(1/q - 1/p) |w|_p / |w|_q                                                          (1)
2. r_t = d_t (1 + eta)^(-q/(q-p)) (1 - I)^(qp/(q-p)), rounded up: a bound on the weights that must
   stay                                                                                         (2)
3. c_t = floor(d_t min(gamma (1 - r_t / d_t), beta)): remove the c_t weights of smallest
   magnitude                                                                                    (3)
4. Rewind the survivors to the initial weights, train, yield.
Baselines in the same loop: `lottery_ticket` removes `rate` of the remaining weights in each unit;
`one_shot` does too, but always ranks by the magnitudes of the first, dense training.

Deviations from the paper:
- In the equal tier one run has the epochs that a one-shot method has for all requested densities
  together, and only as many rounds as get a whole epoch each: SAP at the price of one-shot pruning,
  not at its best. The paper tier runs all rounds in full. Its density is a result, not a setting:
  `density` only ends the loop, perhaps with epochs left over, and a lowest density that the rounds
  do not reach stays unreached.
- In the equal tier it trains with the dense net's recipe; clipping and batch 250 are in the paper
  tier.
- The authors keep the epoch of best test accuracy; here the last epoch is kept, and test is never
  looked at.
- Their code rounds r_t up before (3), their poster does not; `round_up` chooses, the code's way is
  the default.
- Of weights tied at the threshold their code keeps all; here exactly c_t are removed. Counts are
  float64: float32 prunes one weight too few in about a tenth of the groups.
- In the neuron scope the baselines' quantile is taken over the whole neuron; their code takes it
  per kernel tap.
- The first, dense training is the shared dense run; it counts as round 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.sparsity import gini, pq_index, retained
from bench.surgery import Masks, magnitudes, prunable
from bench.trainer import Trainer


class Sap(Method):
    """Prune as much as the PQ Index of the trained weights says, rewind, retrain."""

    family = "adaptive level"
    patterns = ("unstructured",)
    citation = "Diao et al., ICLR 2023"
    iterative = True
    steered = False
    rewinds = True
    paper: ClassVar = {
        "epochs": 200, "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True,
        "weight_decay": 5e-4, "schedule": "cosine", "clip": 1.0, "batch_size": 250,
    }  # fmt: skip

    density: Density | None = Field(
        None, description="end after the first round at or below; none: run all rounds"
    )
    p: float = Field(0.5, gt=0, description="p of the PQ Index")
    q: float = Field(1.0, gt=0, description="q of the PQ Index, above p")
    eta: float = Field(0.0, ge=0, description="eta_r of the bound; larger prunes more")
    gamma: float = Field(1.0, gt=0, description="scale of the pruned fraction")
    beta: float = Field(0.9, gt=0, le=1, description="largest fraction pruned in a round")
    scope: Literal["neuron", "layer", "global"] = Field(
        "global", description="over which weights the index is taken"
    )
    rule: Literal["sap", "lottery_ticket", "one_shot"] = Field(
        "sap", description="SAP or one of its two baselines"
    )
    rate: float = Field(
        0.2, gt=0, lt=1, description="fraction that the baselines remove in a round"
    )
    rounds: int = Field(30, ge=1, description="T, the number of pruning rounds")
    round_up: bool = Field(
        True, description="round r_t up to a whole number, as the authors' code does"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Sap:
        if self.p >= self.q:
            raise ValueError(f"p {self.p:g} must be below q {self.q:g}")
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune, rewind and retrain; a point each round."""
        rewound = trainer.rewound(0)
        first = magnitudes(model)
        masks = Masks({n: torch.ones_like(w, dtype=torch.bool) for n, w in first.items()})
        total = sum(w.numel() for w in first.values())
        rounds = trainer.rounds(self.rounds)
        self.report(model, masks, 0, trainer)
        for index in range(1, rounds + 1):
            masks = self.tighten(
                magnitudes(model), first if self.rule == "one_shot" else magnitudes(model), masks
            )
            masks.apply_(model)
            trainer.pruned(model)
            model.load_state_dict(rewound)
            trainer.fit(model, trainer.epochs(rounds), masks=masks)
            self.report(model, masks, index, trainer)
            yield model
            if self.density is not None and masks.kept() <= self.density * total:
                return

    def tighten(
        self, weights: dict[str, Tensor], ranking: dict[str, Tensor], masks: Masks
    ) -> Masks:
        """One step: equations (1) to (3) on `weights`, removal in the order of `ranking`."""
        rows = {n: self.rows(w) for n, w in weights.items()}
        order = {n: self.rows(r) for n, r in ranking.items()}
        alive = {n: self.rows(m) for n, m in masks.items()}
        if self.scope == "global":
            rows, order, alive = (
                {"all": torch.cat([*x.values()], 1)} for x in (rows, order, alive)
            )
        after = {}
        for name, mask in alive.items():
            count = self.prune_count(rows[name], mask)
            # rank 0 is the smallest unpruned magnitude of its row
            score = torch.where(mask, order[name].double(), math.inf)
            rank = torch.argsort(torch.argsort(score, dim=1, stable=True), dim=1, stable=True)
            after[name] = mask & (rank >= count[:, None])
        if self.scope == "global":
            parts = after["all"].split([m.numel() for m in masks.values()], 1)
            after = dict(zip(masks, parts, strict=True))
        return Masks({n: after[n].reshape(m.shape) for n, m in masks.items()})

    def rows(self, weight: Tensor) -> Tensor:
        """`weight` with a row for each unit of the scope."""
        return weight.flatten(1) if self.scope == "neuron" else weight.reshape(1, -1)

    def prune_count(self, weights: Tensor, mask: Tensor) -> Tensor:
        """c_t for every row of `weights` (units, n), int64; `mask` (bool) names the unpruned."""
        d = mask.sum(1)
        if self.rule != "sap":
            return torch.ceil(self.rate * d.double() - 1e-9).long().clamp_max(d.clamp_min(1) - 1)
        r = d * retained(pq_index(weights, self.p, self.q, mask), self.p, self.q, self.eta)
        if self.round_up:
            r = torch.ceil(r - 1e-9)  # a whole r that rounding lifted by an ulp stays whole
        fraction = (self.gamma * (1 - r / d.double().clamp_min(1))).clamp(0, self.beta)
        return torch.floor(d * fraction + 1e-9).long().minimum(d.clamp_min(1) - 1)

    def report(self, model: nn.Module, masks: Masks, index: int, trainer: Trainer) -> None:
        """Log PQ Index, Gini index and density, of each layer and of all weights."""
        weights = prunable(model)
        every = torch.cat([w.detach()[masks[n]] for n, w in weights.items()])
        parts = {"all": (every, len(every) / sum(w.numel() for w in weights.values()))}
        parts |= {
            n: (w.detach()[masks[n]], float(masks[n].double().mean())) for n, w in weights.items()
        }
        for name, (values, density) in parts.items():
            trainer.log(
                "pqi",
                round=index,
                layer=name,
                pqi=float(pq_index(values, self.p, self.q)) if len(values) else 0.0,
                pqi_half_1=float(pq_index(values, 0.5, 1.0)) if len(values) else 0.0,
                pqi_1_2=float(pq_index(values, 1.0, 2.0)) if len(values) else 0.0,
                gini=gini(values),
                density=density,
            )
        trainer.log(
            "round", round=index, density=parts["all"][1], validation=trainer.validate(model).score
        )
