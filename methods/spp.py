"""SPP: structured probabilistic pruning; the probability that a group is pruned may fall again.

Wang, Zhang, Wang and Hu, "Structured Probabilistic Pruning for Convolutional Neural Network
Acceleration", BMVC 2018 (arXiv 1709.06994). [V]: in the authors' code; [V2]: in that of others;
[R]: recalled, [R-low]: without certainty; [D]: decided here.

A group is a column of a layer's matrix, one input tap of all filters, or a row, one filter [V].
1. Each has a pruning probability p = 0; ceil(R N_c) of a layer's N_c groups are to go [V].
2. Each step draws m ~ Bernoulli(1 - p); forward and backward see m w, the dense w is restored, and
   its gradient is multiplied by m; momentum and weight decay still move unseen groups [V].     (1)
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
- Pruning and retraining each run a learning-rate schedule of their own, with a fresh optimiser [D].
- The authors set R by hand [R-low]; here it is even over all layers, linear ones too, and rounded
  so that the net gets the density asked for [D]. Of the layers that `targets` names, ceil(R N_c)
  groups go exactly; of those that reach p = 1 together by rank. `layers: conv` is the paper's [R].
  The slack that the code can add to R [V] is left out.
- Row and filter are one option, `channel`: a filter alone leaves its bias and batch norm behind and
  may be coupled with others, so all that makes or reads a channel is drawn and removed; R is even
  over the sets of coupled channels [D].
- The code removes a filter whose columns in the next layer are all gone [V]; `clean_up` removes any
  channel that no reader reads, behind several readers, too [D]. It is off by default: the net
  becomes sparser than asked, and linear layers lose most of what the targets keep.
- Validation while pruning is of a drawn net, as the authors test [V].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.probabilities import Groups, draw
from bench.surgery import Masks, channels, nonzero, prunable
from bench.surgery.views import Channels, Columns, View, levels
from bench.trainer import Trainer

Layers = dict[str, Groups]
How = Callable[[Groups, Tensor], None]


def increments(rank: Tensor, left: int, A: float, u: float) -> Tensor:
    """Equation (3) for each `rank` (any shape), in float64; `left` is K, at least 1."""
    a = math.log(2 / u) / left
    centre = -math.log(u) / a
    # far beyond the centre it would overflow, and p is clipped at 0 long before
    mirrored = torch.exp((a * (rank.double() - 2 * centre)).clamp_max(50))
    return A * torch.where(rank < centre, torch.exp(-a * rank.double()), 2 * u - mirrored)


class Spp(Method):
    """Prune columns or channels with probabilities that their ranks raise and lower."""

    family = "probabilistic"
    patterns = ("column", "channel")
    citation = "Wang et al., BMVC 2018"

    density: Density = 0.1
    pattern: Literal["column", "channel"] = Field(
        "column", description="a group: one input tap of all filters, or a coupled channel"
    )
    A: float = Field(0.05, gt=0, le=1, description="what an update adds to the lowest rank's p")
    u: float = Field(0.25, gt=0, lt=1, description="Delta at its centre of symmetry over A")
    t: int = Field(180, ge=1, description="paper tier: steps between updates")
    most: int = Field(1000, ge=1, description="paper tier: updates before the rest goes at once")
    share: float = Field(0.5, gt=0, lt=1, description="equal tier: most of training that prunes")
    updates: int = Field(330, ge=1, description="equal tier: updates wanted; A grows where few fit")
    ranking: Literal["l1", "mean_rank"] = Field(
        "l1", description="rank by L1 norms, or by the running mean of their ranks"
    )
    history: float = Field(0.0, ge=0, lt=1, description="ranking: l1; d of S <- d S + L1 norm")
    draws: Literal["group", "element"] = Field(
        "group",
        description="one draw per group, or (columns) per weight with its group's p, which costs a "
        "float64 random number on the CPU for every weight at every step",
    )
    rescale: bool = Field(
        False, description="columns: multiply survivors by 1 - p once, as the code of 2017"
    )
    layers: Literal["all", "conv"] = Field("all", description="layers that may be pruned")
    targets: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description="R, the pruned fraction, of these layers; the others keep the density",
    )
    clean_up: bool = Field(False, description="columns: also remove channels that nobody reads")

    @model_validator(mode="after")
    def _meaningful(self) -> Spp:
        if self.pattern == "channel" and (self.draws == "element" or self.rescale or self.clean_up):
            raise ValueError("draws: element, rescale and clean_up are for pattern: column")
        if self.history and self.ranking == "mean_rank":
            raise ValueError("history is for ranking: l1; mean_rank has a mean of its own")
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune in the first part of the training, retrain in the rest; one point."""
        view, layers = self.plan(model, trainer)
        epochs, t, A, every = self.pace(trainer, len(layers))
        stream, spent, weights = trainer.generator(), trainer.epochs_spent, prunable(model)
        rows = {n: len(weights[n]) if self.draws == "element" else 1 for n in layers}
        raised = partial(Groups.update, increment=partial(increments, A=A, u=self.u))

        def see(own: dict[str, Tensor]) -> dict[str, Tensor]:
            return view.seen(own, draw(layers, stream, rows))

        def update(model: nn.Module, step: int) -> bool:
            if step % t == 0:
                masks.update(self.move(raised, view, layers, trainer, every))
            return not any(layer.left for layer in layers.values())

        # what is pruned is not seen, so masks change no value; they fix the signs of its zeros
        masks = Masks()
        if self.pattern == "column":  # the authors' code, too, but not that for rows
            update(model, 0)
        trainer.fit(model, epochs, masks=masks, through=see, on_step=update)
        spent = 0.0 if trainer.spec.tier == "paper" else trainer.epochs_spent - spent
        self.move(Groups.force, view, layers, trainer, every)
        for name, layer in layers.items():
            trainer.log("spp_layer", layer=name, interval=t, A=A, **layer.summary())
        model, masks = view.without({n: ~layer.pruned for n, layer in layers.items()})
        if self.clean_up:
            model, masks = self.cleaned(model, trainer)
        trainer.pruned(model)
        trainer.fit(model, trainer.epochs() - spent, masks=masks)
        yield model

    def plan(self, model: nn.Module, trainer: Trainer) -> tuple[View, Layers]:
        """How the net is looked at, and every layer with groups to prune."""
        if self.clean_up:  # a net that cannot be traced is refused before it is trained
            channels.groups(model, trainer.shape)
        view = (Columns if self.pattern == "column" else Channels)(model, trainer.shape)
        dense = view.linear if self.layers == "conv" else set()
        kept = view.kept(self.density, levels(view.sizes, self.targets, dense))
        history = self.history if self.ranking == "l1" else None
        sizes = {n: k for n, k in view.sizes.items() if kept[n] < k}
        return view, {n: Groups(k, k - kept[n], history) for n, k in sizes.items()}

    def pace(self, trainer: Trainer, layers: int) -> tuple[float, int, float, int]:
        """Epochs that prune (at most), t and A, the paper's or what the equal tier allows.

        And updates to a line of history: so many that it has 100 or so, of many layers 10 of each.
        """
        steps, t, A, fit = self.most * self.t, self.t, self.A, self.updates
        if trainer.spec.tier == "equal":
            steps = round(self.share * trainer.steps(trainer.epochs()))
            t = max(1, steps // self.updates)
            fit = max(1, min(self.updates, steps // t))
            A = min(1.0, self.A * self.updates / fit)
        return steps / trainer.steps(1), t, A, max(1, fit // max(10, 100 // max(1, layers)))

    @torch.no_grad()
    def move(self, how: How, view: View, layers: Layers, trainer: Trainer, every: int) -> Masks:
        """Update or force (`how`) all layers that lack groups; the masks of what has gone there."""
        due = {n: layer for n, layer in layers.items() if layer.left}
        with trainer.spend("prune"):
            norms = view.norms(due)
            for name, layer in due.items():
                how(layer, norms[name])
                if not layer.left or layer.updates % every == 0:
                    trainer.log("spp", layer=name, update=layer.updates, **layer.progress())
                if self.rescale and not layer.left:
                    weight = prunable(view.model)[name]
                    weight.mul_((1 - layer.p).to(weight).view(weight[:1].shape))
        return view.masks({n: ~layer.pruned for n, layer in due.items()})

    def cleaned(self, model: nn.Module, trainer: Trainer) -> tuple[nn.Module, Masks]:
        """The net without the channels that no weight reads, and the masks of what is left."""
        smaller = channels.shrink(model, trainer.shape, channels.removable(model, trainer.shape))
        found, left = nonzero(model), nonzero(smaller)
        trainer.log("spp_clean_up", weights_before=found.kept(), weights_after=left.kept())
        return smaller, left
