"""SPP: structured probabilistic pruning; the probability that a group is pruned may fall again.

Wang, Zhang, Wang and Hu, "Structured Probabilistic Pruning for Convolutional Neural Network
Acceleration", BMVC 2018 (arXiv 1709.06994). [V]: in the authors' code; [V2]: in that of others.

A group is a column of a layer's matrix, one input tap of all filters, or a channel [V].
1. Each has a pruning probability p = 0; ceil(R N_c) of a layer's N_c groups are to go [V].
2. Each step draws m ~ Bernoulli(1 - p); forward and backward see m w, the dense w is restored,
   and its gradient is multiplied by m [V].                                                      (1)
3. Every t steps groups not yet pruned are ranked by the L1 norm of their dense weights, r = 0 the
   smallest; with K of them still to go, p <- clip(p + Delta(r), 0, 1) [V],                      (2)
   Delta(r) = A exp(-a r) if r < N, else 2uA - A exp(-a (2N - r)),
   a = ln(2/u) / K, N = -ln(u) / a: A at r = 0, uA at N, 0 at K, negative beyond [V].            (3)
4. p = 1 is for good. A layer stops at K = 0; its survivors see mask 1 [V].
5. Retrain with the masks held [V].

Deviations from the paper:
- A and u are the authors' [V], t is a re-implementation's [V2]; the paper tier keeps them, with the
  config's schedule of training, since the paper's is not known. The equal tier has no 180 steps for
  each of 330 updates (the most that (2) took for 1152 groups in our simulations): `share` of its
  steps prune, t is what that allows, and where t = 1 is still too slow A grows in proportion, to at
  most 1. What is left then goes at once, highest p, then smallest norm first (history: `forced`).
- The authors set R by hand; here it is even over all layers, linear ones too, so that the net gets
  the density asked for. `targets` and `layers` (conv: the paper's) choose otherwise.
- Groups that reach p = 1 together are taken by rank, so that ceil(R N_c) is met exactly.
- Row mode: a filter leaves its bias and batch norm behind, and couples with others. `channel` draws
  and removes all that makes or reads a channel; R is even over the sets of coupled channels.
- Removing filters whose columns in the next layer are all gone [V] is off by default (`clean_up`):
  it makes the net sparser than asked, and of linear layers it takes most of what the targets keep.
- Validation while pruning is of a drawn net, as the authors test [V].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Masks, channels, nonzero, prunable
from bench.surgery.views import Channels, Columns, View, levels
from bench.trainer import Trainer


def increments(rank: Tensor, left: int, A: float, u: float) -> Tensor:
    """Equation (3) for each `rank` (any shape), in float64; `left` is K, at least 1."""
    a = math.log(2 / u) / left
    centre = -math.log(u) / a
    # far beyond the centre it would overflow, and p is clipped at 0 long before
    mirrored = torch.exp((a * (rank.double() - 2 * centre)).clamp_max(50))
    return A * torch.where(rank < centre, torch.exp(-a * rank.double()), 2 * u - mirrored)


class Layer:
    """The groups of one layer; each tensor has an entry for each of the `size` groups."""

    def __init__(self, size: int, target: int) -> None:
        """`target` of them are to be pruned."""
        self.target, self.updates, self.forced = target, 0, 0
        self.p, self.score, self.peak = torch.zeros(3, size, dtype=torch.float64)
        self.pruned, self.fell = torch.zeros(2, size, dtype=torch.bool)

    @property
    def left(self) -> int:
        """K: how many are still to be pruned."""
        return self.target - int(self.pruned.sum())

    def rank(self, norms: Tensor, method: Spp) -> Tensor:
        """Each group's place among those not yet pruned, 0 for the smallest."""
        if method.ranking == "l1":
            self.score = method.history * self.score + norms.double()
        else:
            self.score += (self._order(norms.double()) - self.score) / self.updates
        return self._order(self.score)

    def _order(self, score: Tensor) -> Tensor:
        alive = torch.where(self.pruned, math.inf, score)
        return torch.argsort(torch.argsort(alive, stable=True))

    def update(self, norms: Tensor, A: float, method: Spp) -> None:
        """Equation (2), with the groups' L1 `norms`."""
        self.updates += 1
        rank = self.rank(norms, method)
        p = (self.p + increments(rank, self.left, A, method.u)).clamp(0, 1)
        p = torch.where(self.pruned | (p > 1 - 1e-9), 1.0, p)  # a sum of steps may miss 1 by an ulp
        self.fell |= p < self.p - 1e-9
        self.p, self.peak = p, torch.maximum(self.peak, p)
        self.prune(torch.argsort(rank), p == 1)

    def prune(self, order: Tensor, due: Tensor) -> None:
        """Prune those that are `due`, in this `order`, and never more than the target."""
        self.pruned[order[(due & ~self.pruned)[order]][: self.left]] = True
        self.p = torch.where(self.pruned, 1.0, self.p.clamp_max(1 - 1e-9))

    def force(self, norms: Tensor) -> None:
        """Prune at once what the target lacks: highest p first, of equals the smallest norm."""
        self.forced = self.left
        order = torch.argsort(norms, stable=True)
        order = order[torch.argsort(self.p[order], descending=True, stable=True)]
        self.prune(order, ~self.pruned)

    def draw(self, stream: torch.Generator, rows: int = 1) -> Tensor:
        """Equation (1): (`rows`, size), True = seen."""
        if not self.left:
            return (~self.pruned).expand(rows, -1)
        return torch.rand(rows, len(self.p), generator=stream, dtype=torch.float64) >= self.p

    def progress(self) -> dict[str, object]:
        """For history: groups whose p fell since the last time; counts of p by tenths, and at 1."""
        bins = torch.bincount((10 * self.p).long(), minlength=11).tolist()
        fell, self.fell[:] = int(self.fell.sum()), False
        return {"groups": len(self.p), "pruned": bins[10], "fell": fell, "histogram": bins}

    def summary(self) -> dict[str, object]:
        """For history; `recovered`: survivors whose p has fallen, `peak`: the highest of theirs."""
        p, peak = self.p[~self.pruned], self.peak[~self.pruned]
        return {
            "groups": len(self.p), "pruned": int(self.pruned.sum()), "target": self.target,
            "updates": self.updates, "forced": self.forced,
            "recovered": int((peak > p + 1e-9).sum()), "peak": float(peak.max()),
        }  # fmt: skip


class Pace(NamedTuple):
    """Pruning lasts at most `epochs`, with an update every `t` steps; a log line every `log`."""

    epochs: float
    t: int
    A: float
    log: int


class Spp(Method):
    """Prune columns or channels with probabilities that their ranks raise and lower."""

    family = "probabilistic"
    patterns = ("column", "channel")
    citation = "Wang et al., BMVC 2018"

    density: Density = 0.1
    pattern: Literal["column", "channel"] = Field(
        "column", description="a group: one input tap of all filters, or a channel (row mode)"
    )
    A: float = Field(0.05, gt=0, le=1, description="what an update adds to the lowest rank's p")
    u: float = Field(0.25, gt=0, lt=1, description="Delta at its centre of symmetry over A")
    t: int = Field(180, ge=1, description="paper tier: steps between updates")
    most: int = Field(1000, ge=1, description="paper tier: updates before the rest goes at once")
    share: float = Field(0.5, gt=0, lt=1, description="equal tier: part of training that prunes")
    updates: int = Field(330, ge=1, description="equal tier: updates wanted; A grows where few fit")
    ranking: Literal["l1", "mean_rank"] = Field(
        "l1", description="rank by L1 norms, or by the running mean of their ranks"
    )
    history: float = Field(0.0, ge=0, lt=1, description="d of the score S <- d S + L1 norm")
    draws: Literal["group", "element"] = Field(
        "group", description="one draw per group, or (columns) per weight with its group's p"
    )
    rescale: bool = Field(
        False, description="columns: multiply survivors by 1 - p once, as the code of 2017"
    )
    layers: Literal["all", "conv"] = Field("all", description="layers that may be pruned")
    targets: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description="R, the pruned fraction, of these layers; the others keep the density",
    )
    clean_up: bool = Field(False, description="columns: also remove filters that nobody reads")

    @model_validator(mode="after")
    def _columns_only(self) -> Spp:
        if self.pattern == "channel" and (self.draws == "element" or self.rescale or self.clean_up):
            raise ValueError("draws: element, rescale and clean_up are for pattern: column")
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune in the first part of the training, retrain in the rest; one point."""
        view, layers = self.plan(model, trainer)
        pace, stream, masks = self.pace(trainer, len(layers)), trainer.generator(), Masks()

        def see(own: dict[str, Tensor]) -> dict[str, Tensor]:
            rows = {n: len(own[n]) if self.draws == "element" else 1 for n in layers}
            return view.seen(own, {n: s.draw(stream, rows[n]) for n, s in layers.items()})

        def update(model: nn.Module, step: int) -> bool:
            if step % pace.t == 0:
                with trainer.spend("prune"):
                    masks.update(self.update(view, layers, pace, trainer))
            return not any(layer.left for layer in layers.values())

        spent = trainer.epochs_spent
        if self.pattern == "column":  # the authors' code, too, but not that for rows
            update(model, 0)
        trainer.fit(model, pace.epochs, masks=masks, through=see, on_step=update)
        spent = 0.0 if trainer.spec.tier == "paper" else trainer.epochs_spent - spent
        masks.update(self.update(view, layers, pace, trainer, force=True))
        for name, layer in layers.items():
            trainer.log("spp_layer", layer=name, interval=pace.t, A=pace.A, **layer.summary())
        model = view.without({n: ~layer.pruned for n, layer in layers.items()})
        if self.clean_up:
            model, masks = self.cleaned(model, trainer)
        trainer.pruned(model)
        trainer.fit(model, trainer.epochs() - spent, masks=masks)
        yield model

    def plan(self, model: nn.Module, trainer: Trainer) -> tuple[View, dict[str, Layer]]:
        """How the net is looked at, and every layer with groups to prune."""
        view = (Columns if self.pattern == "column" else Channels)(model, trainer.shape)
        dense = view.linear if self.layers == "conv" else set()
        kept = view.kept(self.density, levels(view.sizes, self.targets, dense))
        return view, {n: Layer(k, k - kept[n]) for n, k in view.sizes.items() if kept[n] < k}

    def pace(self, trainer: Trainer, layers: int) -> Pace:
        """The paper's, or what the equal tier allows; about 60 lines of history in all."""
        per_epoch = trainer.steps(1)
        steps, t, A, fit = self.most * self.t, self.t, self.A, self.updates
        if trainer.spec.tier == "equal":
            steps = round(self.share * trainer.steps(trainer.epochs()))
            t = max(1, steps // self.updates)
            fit = max(1, min(self.updates, steps // t))
            A = min(1.0, self.A * self.updates / fit)
        return Pace(steps / per_epoch, t, A, max(1, fit // max(10, 100 // max(1, layers))))

    @torch.no_grad()
    def update(
        self,
        view: View,
        layers: dict[str, Layer],
        pace: Pace,
        trainer: Trainer,
        force: bool = False,
    ) -> Masks:
        """Update all p, or `force` what is left to p = 1; the masks of what is pruned for good."""
        norms, due = view.norms(), {n: layer for n, layer in layers.items() if layer.left}
        for name, layer in due.items():
            layer.force(norms[name]) if force else layer.update(norms[name], pace.A, self)
            if not layer.left or layer.updates % pace.log == 0:
                trainer.log("spp", layer=name, update=layer.updates, **layer.progress())
            if self.rescale and not layer.left:
                weight = prunable(view.model)[name]
                weight.copy_(view.seen({name: weight}, {name: 1 - layer.p})[name])
        return view.masks({n: ~layer.pruned for n, layer in due.items()})

    def cleaned(self, model: nn.Module, trainer: Trainer) -> tuple[nn.Module, Masks]:
        """The net without the channels that no weight reads, and the masks of what is left."""
        smaller = channels.shrink(model, trainer.shape, channels.removable(model, trainer.shape))
        found, left = nonzero(model), nonzero(smaller)
        trainer.log("spp_clean_up", weights_before=found.kept(), weights_after=left.kept())
        return smaller, left
