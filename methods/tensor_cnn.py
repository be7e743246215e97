"""A-priori compression: convolutions in tensor format before any training.

Boukraichi, Akkari, Casenave, Ryckelynck, "A priori compression of convolutional neural networks
for wave simulators", arXiv 2304.04964, 2023. [V]: on its first page, the only one that could be
read; [D]: the benchmark's decision. Nothing here is recalled.

1. Before training [V], replace each 2-way or 3-way kernel by one-way filters [V]: vectors along
   single axes of the kernel (C_in x k_h x k_w for each output o), applied one after the other
   without non-linearity [D]:
   rank1: K_o[c,i,j] = a_o[c] b_o[i] g_o[j] [D]                                                 (1)
   separable: K_oc[i,j] = b_oc[i] g_oc[j] [D]                                                   (2)
   cp: K_o[c,i,j] = sum over q <= Q of d_q[o] a_q[c] b_q[i] g_q[j] [D]                          (3)
2. Train the factors [V] as the dense net is trained; nothing is pruned, nothing is fine-tuned [D].
`bench.surgery.factorise` holds the layers: 1-D to 3-D kernels, transposed ones too.

Deviations from the paper, all of them [D]:
- "One-way" admits (1) and (2). Both are modes; their density is a result (`density: auto`). The
  default is (3), an extension whose Q gives the density that is asked for: where (1) has vectors of
  its own for each output, (3) shares Q filters among all; Q = C_out and d the identity give (1).
- (2) saves weights, not time: it trains many times slower than the dense net (12 to 14 times, for
  `wave_net` on a CPU).
- Q: every layer gets the same share of its weights and at least rank 1, by largest remainder; the
  total is never above the budget, and below it by less than one more rank of any layer that still
  has factors. A layer that factors would not make smaller stays dense, within the budget, and a
  density below that of rank 1 everywhere is refused.
- With `linear`, (3) also makes linear layers a product of two matrices, though the paper compresses
  convolutions: nearly all weights of a LeNet are linear.
- The classifier (the prunable layer registered last, if it is linear), grouped convolutions and
  recurrent layers stay dense, and so does a layer that shares its weight or its bias with another.
- Initialisation keeps the dense layer's variance, whatever rule drew it; where that rule does not
  preserve variance (`wave_net`), neither do the factors. Filters along an axis of length k have
  norm 1 instead of i.i.d. entries of variance 1/k, so that no draw makes a channel fade.
- Trained weights to start from (a task's `weights`) are refused: this method would discard them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from bench.method import Density, Method
from bench.surgery import PatternError, prunable
from bench.surgery.allocation import AllocationError
from bench.surgery.factorise import Mode, factorise, ranks, refusal, replace, weights
from bench.surgery.probe import SurgeryError
from bench.trainer import Trainer

Rank = Annotated[int, Field(ge=1)]


class TensorCnn(Method):
    """Train factors of the layers from the start."""

    start = "init"
    family = "factorised"
    patterns = ("factorised",)
    citation = "Boukraichi et al., arXiv 2304.04964, 2023"

    density: Density | Literal["auto"] = Field(
        0.1,
        description="weights of the factors and of dense layers, of all prunable weights of the "
        "dense net; auto: whatever the mode or the rank gives",
    )
    mode: Mode = Field("cp", description="kernel of a layer: rank1 (1), separable (2) or cp (3)")
    rank: Rank | Annotated[dict[str, Rank], Field(min_length=1)] | None = Field(
        None,
        description="cp: Q of every layer, or of each named weight (the others stay dense); none: "
        "from the density",
    )
    linear: bool = Field(True, description="cp: factorise linear layers but the classifier too")

    @model_validator(mode="after")
    def _consistent(self) -> TensorCnn:
        if self.rank is not None and self.mode != "cp":
            raise ValueError(f"rank is a number of mode cp; mode {self.mode} has none")
        if (self.density == "auto") == (self.mode == "cp" and self.rank is None):
            raise ValueError(
                "density must be a number in mode cp without a rank, which it decides, and auto in "
                f"the other cases, where it is a result; it is {self.density!r}"
            )
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Factorise, train, yield once."""
        if trainer.spec.weights is not None:
            raise SurgeryError(
                "an a-priori method trains factors from the start, so it would discard the trained "
                "kernels of the task's weights"
            )
        dense = self.kept_dense(model)
        owners = {n: n.rpartition(".")[0] for n in prunable(model) if n not in dense}
        layers = {n: model.get_submodule(owner) for n, owner in owners.items()}
        chosen = self.chosen_ranks(model, layers, dense)
        draws, factors = trainer.generator(), {}
        for name, rank in chosen.items():
            factors[owners[name]] = factorise(layers[name], self.mode, rank, draws)
            left = weights(layers[name], self.mode, rank)
            trainer.log("factorised", layer=name, rank=rank, weights=left)
        model = replace(model, factors, trainer.shape)
        trainer.fit(model, trainer.epochs())
        yield model

    def kept_dense(self, model: nn.Module) -> dict[str, str]:
        """The prunable weights that stay as they are whatever the density, and why."""
        stored = prunable(model)
        uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        reasons = {}
        for name, weight in stored.items():
            layer = model.get_submodule(name.rpartition(".")[0])
            linear = isinstance(layer, nn.Linear)
            if reason := refusal(layer):
                reasons[name] = reason
            elif uses[id(weight)] > 1:
                reasons[name] = "two layers share it"
            elif uses[id(layer.bias)] > 1:
                reasons[name] = "two layers share its bias"
            elif linear and name == list(stored)[-1]:
                reasons[name] = "the classifier"
            elif linear and not (self.linear and self.mode == "cp"):
                reasons[name] = "a linear layer"
        return reasons

    def chosen_ranks(
        self, model: nn.Module, layers: dict[str, nn.Module], dense: dict[str, str]
    ) -> dict[str, int]:
        """Q of each layer that gets smaller by it (1 where the mode has no rank)."""
        sizes = {n: w.numel() for n, w in prunable(model).items()}
        whole = sum(sizes[n] for n in dense)
        why = "; ".join(f"{n}: {reason}" for n, reason in list(dense.items())[:3])
        why += "; ..." if len(dense) > 3 else ""
        held = f"{whole} of {sum(sizes.values())} weights stay dense ({why})"
        wanted = dict.fromkeys(layers, self.rank if isinstance(self.rank, int) else 1)
        if isinstance(self.rank, dict):
            for name, q in self.rank.items():
                if name not in layers:
                    raise PatternError(f"rank of {name!r}: {dense.get(name, 'no such weight')}")
                left, size = weights(layers[name], self.mode, q), sizes[name]
                if left >= size:
                    raise PatternError(
                        f"rank {q} of {name!r} saves nothing: {left} >= {size} weights"
                    )
            wanted = self.rank
        elif self.density != "auto":
            budget = max(0, round(self.density * sum(sizes.values())) - whole)
            steps = {n: weights(layer, self.mode) for n, layer in layers.items()}
            try:
                wanted = ranks({n: sizes[n] for n in layers}, steps, budget)
            except AllocationError as error:
                raise AllocationError(
                    f"density {self.density:g} is out of reach: {held}, and {error}"
                ) from None
        smaller = {n: q for n, q in wanted.items() if weights(layers[n], self.mode, q) < sizes[n]}
        if not smaller and self.density != 1:
            asked = f"mode {self.mode}" if self.rank is None else f"rank {self.rank}"
            raise PatternError(f"{asked} makes no layer smaller: {held}")
        return smaller
