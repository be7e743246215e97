"""A learned selection of k of n: its draws, how sure it is, and how much its groups differ.

The abstract of Dynamic Probabilistic Pruning promises metrics of confidence and of diversity; its
formulas were out of reach, so these are the benchmark's own. Rows are groups: (groups, n); natural
logarithms throughout. They describe the draws, whose chances are those of softmax(phi / s): reports
end when the draws do, at the freeze.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from bench.surgery.candidates import Candidates
from bench.surgery.layers import prunable
from bench.surgery.masks import Masks
from bench.surgery.topk import Relaxation, gumbel, straight_through, top

TINY = 1e-20
LARGE = 32
"""The k from which inclusion chances come without draws (within 0.01 of 20,000 draws)."""


def entropy(logits: Tensor) -> Tensor:
    """H(softmax) of each row, in nats: (groups,)."""
    p = logits.softmax(1)
    return -(p * torch.log(p + TINY)).sum(1)


def confidence(logits: Tensor) -> Tensor:
    """1 - H(softmax) / log n of each row: 0 for equal logits, 1 for one certain candidate."""
    n = logits.shape[1]
    return 1 - entropy(logits.double()) / math.log(n) if n > 1 else logits.new_ones(len(logits))


def mask_confidence(chances: Tensor, k: int) -> Tensor:
    """1 - sum_i h(chances_i) / (n h(k / n)) of each row, h the entropy of a coin.

    `chances`: inclusion probabilities, k in sum. 1 for a certain k-subset, 0 for equal chances.
    """
    n = chances.shape[1]
    if k == n:
        return chances.new_ones(len(chances))
    return 1 - _coin(chances).sum(1) / (n * _coin(torch.tensor(k / n, dtype=chances.dtype)))


def diversity(chances: Tensor, k: int, tiles: int = 1) -> float | None:
    """Generalised Jensen-Shannon divergence between the rows of `chances` / k, by its bound.

    H(mean of rows) - mean of H(row): the information that the group gives on the selection. 0 if
    all rows are alike; 1 at the bound min(log groups, log n - log k), which disjoint certain
    subsets reach. Of `tiles` groups to a row only those at one place have the same candidates: the
    mean over the places. None for a single group, which differs from nothing.
    """
    rows, n = len(chances) // tiles, chances.shape[1]
    if rows == 1:
        return None
    bound = min(math.log(rows), math.log(n) - math.log(k))
    if bound <= 0:
        return 0.0
    places = (chances.double() / k).view(rows, tiles, n).unbind(1)
    found = [_entr(q.mean(0)).sum() - _entr(q).sum(1).mean() for q in places]
    return float(torch.stack(found).mean() / bound)


@torch.no_grad()
def inclusion(logits: Tensor, k: int, stream: torch.Generator) -> Tensor:
    """P(candidate is among the `k` drawn without replacement from softmax(logits)), float64.

    Of each draw the other candidates' noise is taken as given: candidate i is among the k if its z
    exceeds t, the k-th largest z of the others, and P(z_i > t) = 1 - exp(-exp(logit_i - t)). The
    mean over draws is far steadier than a count. 1,000 draws for a small layer, fewer
    for a large one, whose many groups are averaged anyway; `_race` where k is large.
    """
    logits = logits.double()
    if k == 1 or k == logits.shape[1]:
        return logits.softmax(1) if k == 1 else torch.ones_like(logits)
    if k >= LARGE:
        return _race(logits, k)
    draws, chances = min(1000, max(20, 2 * 10**6 // logits.numel())), torch.zeros_like(logits)
    for _ in range(draws):
        z = logits + gumbel(tuple(logits.shape), stream).to(logits)
        first = z.topk(k + 1, 1).values
        bound = torch.where(z > first[:, -1:], first[:, -1:], first[:, -2:-1])
        chances -= torch.expm1(-torch.exp(logits - bound))
    # rows sum to k but for the noise of the draws
    return (chances * (k / chances.sum(1, keepdim=True))).clamp_max(1)


def _race(logits: Tensor, k: int) -> Tensor:
    """`inclusion` without draws, biased by 1 / k.

    Gumbel top-k is a race: candidate i arrives at an exponential time of rate exp(logit), and the
    first k win. The k-th arrival, taken as a fixed time t, follows from the sum of the chances, k.
    """
    # log t lies where even the k-th largest, or the largest, is all but certain to arrive
    ordered = logits.topk(k, 1).values
    low, high = -ordered[:, :1] - 40, -ordered[:, -1:] + 10
    for _ in range(30):
        middle = (low + high) / 2
        few = -torch.expm1(-torch.exp(logits + middle)).sum(1, keepdim=True)
        low, high = torch.where(few < k, middle, low), torch.where(few < k, high, middle)
    return -torch.expm1(-torch.exp(logits + (low + high) / 2))


def _entr(p: Tensor) -> Tensor:
    return torch.special.entr(p)


def _coin(p: Tensor) -> Tensor:
    return _entr(p) + _entr(1 - p)


class Selection:
    """The logits of every layer's groups, and the masks that they draw.

    `found`, `k`: the candidates of each layer and how many of a group stay; `spread`: standard
    deviation of the first logits; `noise`: scale s of the Gumbel noise; `streams`: a generator for
    each name of a purpose. The first logits are the same everywhere; the draws are `device`'s own.
    """

    def __init__(
        self,
        found: Mapping[str, Candidates],
        k: Mapping[str, int],
        spread: float,
        noise: float,
        relaxation: Relaxation,
        streams: Callable[[str], torch.Generator],
        device: torch.device,
    ) -> None:
        self.found, self.k, self.noise, self.relaxation = found, k, noise, relaxation
        first = streams("logits")
        self.draws, self.readings = (
            torch.Generator(device).manual_seed(streams(name).initial_seed())
            for name in ("noise", "metrics")
        )
        self.logits = {
            name: nn.Parameter((spread * torch.randn(c.groups, c.n, generator=first)).to(device))
            for name, c in found.items()
        }
        self.before = self.kept()
        self.pruned = {name: ~kept for name, kept in self.before.items()}
        self.final: dict[str, Tensor] = {}

    def parameters(self) -> Iterable[nn.Parameter]:
        """The logits."""
        return self.logits.values()

    def kept(self) -> dict[str, Tensor]:
        """The k likeliest of every group, bool (groups, n)."""
        return {name: top(phi.detach(), self.k[name]) for name, phi in self.logits.items()}

    def masks(self, tau: float | None) -> dict[str, Tensor]:
        """Weight -> mask of zeros and ones that broadcasts: drawn, with gradients, at `tau`.

        Without a temperature that of the likeliest, as always once frozen. The masks of one weight
        are multiplied.
        """
        if self.final:
            return self.final
        masks: dict[str, Tensor] = {}
        for name, phi in self.logits.items():
            if tau is None:
                chosen = top(phi.detach(), self.k[name]).to(phi.dtype)
            else:
                z = phi + self.noise * gumbel(tuple(phi.shape), self.draws)
                chosen = straight_through(z, self.k[name], tau, self.relaxation)
            for weight, mask in self.found[name].masks(chosen).items():
                masks[weight] = masks[weight] * mask if weight in masks else mask
        return masks

    def freeze(self) -> None:
        """End the draws: from now on all masks are those of the likeliest."""
        self.final = self.masks(None)

    @torch.no_grad()
    def rescale_(self, model: nn.Module) -> None:
        """Divide the weights by the root of the density that they are seen at."""
        own = dict(model.named_parameters())
        for name, mask in self.masks(None).items():
            own[name].div_(mask.mean().sqrt())

    def held(self, model: nn.Module) -> Masks:
        """The likeliest masks, as those that a training holds."""
        weights = prunable(model)
        return Masks(
            {n: m.bool().expand(weights[n].shape).clone() for n, m in self.masks(None).items()}
        )

    def entropy(self) -> Tensor:
        """Sum of H(softmax(phi)) over all groups, nats."""
        return torch.stack([entropy(phi).sum() for phi in self.logits.values()]).sum()

    @torch.no_grad()
    def report(self) -> Iterator[dict[str, str | float | None]]:
        """For each layer its metrics, and what has changed in the likeliest since the last report.

        confidence: of softmax(phi / s), as the draws see phi (without noise: of softmax(phi));
        turnover: groups with another k-subset; recovered: of the candidates that were ever out of
        it at a report, those that are in it now. Without noise the likeliest are what is drawn.
        """
        for name, phi in self.logits.items():
            k, kept = self.k[name], top(phi, self.k[name])
            scaled = phi / self.noise if self.noise else phi
            chances = inclusion(scaled, k, self.readings) if self.noise else kept.double()
            changed = (kept != self.before[name]).any(1)
            ever = self.pruned[name]
            back = (kept & ever).sum() / ever.sum().clamp_min(1)
            yield {
                "layer": name,
                "confidence": float(confidence(scaled).mean()),
                "mask_confidence": float(mask_confidence(chances, k).mean()),
                "diversity": diversity(chances, k, self.found[name].tiles),
                "turnover": float(changed.double().mean()),
                "recovered": float(back),
            }
            self.before[name], self.pruned[name] = kept, ever | ~kept
