"""Taylor-FO: remove the channels whose gates the loss would notice least, a few at a time.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR
2019 (arXiv 1906.10771). Verified: gates and schedule, in the authors' code; (1), (2) second hand.

1. The importance of parameters S that go together is I = (E(W) - E(W without S))^2.            (1)
2. To first order I = (sum over S of g w)^2, g the gradient of a batch's mean loss.             (2)
   For a channel that a batch norm makes this is (dL/dz)^2 of a gate z = 1 behind it.
3. While the net trains on, (2) is averaged over the batches of an interval; then
   I <- 0.9 I + 0.1 I_new, and the channels of smallest I over all layers go.                   (3)
4. Train on.

Deviations from the paper:
- S is all that makes a channel: weights, biases, scales and shifts, so that any net will do.
  Convolutions in front of a batch norm in training mode add nothing, since their scale does not
  matter, so this is the gate's gradient; where a residual addition couples channels it sums those
  of the gates in front of it, where the paper has one behind it. The square is divided by the
  number of weights that make the channel (`divide`), where the paper divides by a stage's blocks.
- Hidden units of recurrent layers are channels, too.
- Every round lowers the density of weights by the same amount, so that it ends at the one asked
  for; the paper removes 100 of a ResNet's gates every 30 batches. `rounds` are spread over the
  first `share` of the training, `interval` batches at most apart.
- The recipe that all methods share; the paper has a rate of 1e-3 and no weight decay. It also
  clears all momentum when the pruning ends.
- `oracle`: so many channels are also removed one by one, before the first round, to measure (1) on
  the same samples (history), at a forward pass each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from bench.method import Density, Method
from bench.surgery.channels import Group
from bench.surgery.gradients import Gradients, product
from bench.surgery.layers import scoring_copy
from bench.surgery.views import Channels
from bench.trainer import Trainer


class Taylor(Method):
    """Remove the channels of smallest first-order importance while the net trains on."""

    family = "taylor"
    patterns = ("channel",)
    citation = "Molchanov et al., CVPR 2019"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    rounds: int = Field(30, ge=1, description="times that channels are removed")
    interval: int = Field(30, ge=1, description="most batches between them")
    share: float = Field(0.5, gt=0, lt=1, description="most of the training that removes")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the importance, from round to round")
    divide: bool = Field(True, description="divide by the number of weights that make a channel")
    oracle: int = Field(0, ge=0, description="channels whose true importance is measured")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train while channels go, then train on; one point."""
        view = Channels(model, trainer.shape)
        view.kept(self.density, {})  # out of reach is refused before training
        due = self.due(trainer.steps())
        made = {place.name for g in view.groups.values() for place in g.slices if place.output}
        parameters = {n: p for n, p in model.named_parameters() if n in made}
        taken = Gradients(parameters, product)
        keep = {n: torch.ones(size, dtype=torch.bool) for n, size in view.sizes.items()}
        running: dict[str, Tensor] = {}
        summed: list[dict[str, Tensor]] = []
        if self.oracle:
            with trainer.spend("score"):
                self.compare(view, trainer)

        def see(own: dict[str, Tensor]) -> dict[str, Tensor]:
            return view.seen(own, {n: k for n, k in keep.items() if not k.all()})

        def on_step(model: nn.Module, step: int) -> None:
            if step > due[-1]:
                return
            with trainer.spend("score"):
                summed.append({n: self.importance(g, taken.found) for n, g in view.groups.items()})
            if step in due:
                with trainer.spend("prune"):
                    new = {n: torch.stack([s[n] for s in summed]).mean(0).cpu() for n in keep}
                    summed.clear()
                    for name, score in new.items():
                        old = running.get(name, score)
                        running[name] = self.momentum * old + (1 - self.momentum) * score  # (3)
                    done = (due.index(step) + 1) / len(due)
                    self.remove(view, keep, running, 1 - (1 - self.density) * done)
                for name, score in running.items():
                    left = score[keep[name]]
                    trainer.log(
                        "taylor", step=step, layer=name, width=len(left), least=float(left.min())
                    )
                if step == due[-1]:
                    taken.stop()

        taken.watch()
        trainer.fit(model, through=see, on_step=on_step)
        yield view.without(keep)[0]

    def due(self, steps: int) -> list[int]:
        """The steps after which channels go."""
        rounds = max(1, min(self.rounds, round(self.share * steps)))
        apart = max(1, min(self.interval, int(self.share * steps) // rounds))
        return [apart * (i + 1) for i in range(rounds)]

    def importance(self, group: Group, products: Mapping[str, Tensor]) -> Tensor:
        """Equation (2) for each channel of `group`, (channels,); `products`: g w by name."""
        parts = [
            _units(products[p.name].movedim(p.axis, 0))[p.index].sum(1)
            for p in group.slices
            if p.output and p.name in products
        ]
        coupled = len(group.producers) if self.divide else 1
        return torch.stack(parts).sum(0).square() / coupled

    def remove(
        self, view: Channels, keep: dict[str, Tensor], scores: Mapping[str, Tensor], density: float
    ) -> None:
        """Take the worst channels out of `keep`, over all layers, down to `density` of weights."""
        # what has gone stays gone
        left = {n: torch.where(keep[n], s, -1.0) for n, s in scores.items()}
        keep.update({n: new & keep[n] for n, new in view.best(left, density).items()})

    def compare(self, view: Channels, trainer: Trainer) -> None:
        """Log (1) and (2) of some channels, drawn evenly over all, on the same batch."""
        net = scoring_copy(view.model, batch_statistics=True)
        inputs, targets = next(trainer.samples(stream="oracle"))
        own = {n: p.detach() for n, p in view.model.named_parameters()}

        def loss(replaced: Mapping[str, Tensor]) -> float:
            with torch.no_grad():
                outputs = functional_call(net, dict(replaced), (inputs,))
                return float(trainer.loss(outputs, targets)) / len(targets)

        (trainer.loss(net(inputs), targets) / len(targets)).backward()
        products = {n: product(p) for n, p in net.named_parameters() if p.grad is not None}
        estimate = {n: self.importance(g, products) for n, g in view.groups.items()}
        units = [(n, c) for n, size in view.sizes.items() for c in range(size)]
        order = torch.randperm(len(units), generator=trainer.generator("oracle units"))
        whole = loss(own)
        for name, channel in (units[i] for i in order[: self.oracle].tolist()):
            keep = torch.ones(view.sizes[name], dtype=torch.bool)
            keep[channel] = False
            without = loss(view.seen(own, {name: keep}))
            trainer.log(
                "oracle",
                layer=name,
                channel=channel,
                taylor=float(estimate[name][channel]),
                oracle=(without - whole) ** 2,
            )


def _units(values: Tensor) -> Tensor:
    """The sum over all but the first axis."""
    return values.reshape(len(values), -1).sum(1)
