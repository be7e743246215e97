"""Privacy-preserving pruning: ADMM against the dense net's own layers, on random images.

Gong, Zhan, Li, Niu, Ma, Wang, Ren, Ding, Lin, Xu, Wang, "A Privacy-Preserving-Oriented DNN Pruning
and Mobile Acceleration Framework", GLSVLSI 2020 (arXiv 2003.06513). Verified: the roles, synthetic
data, layer-wise distillation by ADMM and the masked retraining, in the abstracts. Recalled: the
rest; the paper's text was out of reach.

The client owns the net W' and the data; the designer sees the net only, prunes it and returns
weights and a mask.
1. Synthetic images: each pixel uniform in 0 to 255, no labels; then the net's normal preprocessing,
   which holds the mean and deviation of the training images' pixels.
2. Layer after layer, X what it reads behind the layers pruned before it, X' what it reads in W':
   min |W X - W' X'|^2 subject to W in S, by ADMM with scaled dual U, Z = Proj(W'), U = 0:       (1)
   W <- argmin |W X - W' X'|^2 + rho / 2 |W - Z + U|^2,                                         (2)
   Z <- Proj(W + U), U <- U + W - Z.                                                            (3)
3. rho grows tenfold, three times.
4. The mask is the support of Proj(W). The client trains on with it.
Proj: the largest weights ("irregular" in the paper), or the columns, 2-D kernels ("connectivity")
or channels ("filters") of largest L2 norm. With a `library`, on top of kernels: in each 3 x 3
kernel the one of its patterns of four entries that retains the most energy.

Deviations from the paper:
- (2) is solved exactly, in W, from the moments of a fixed set of images for each layer; the paper
  takes steps of SGD on fresh batches. A layer is its matrix, without the bias, which is not pruned
  and the same in both; a recurrent layer has two.
- rho is in units of the layer's mean squared input, so that it means the same everywhere, and goes
  from 1e-2 to 10: with the recalled 1e-4 to 1e-1 W ends far from its set. U is not rescaled when
  rho grows; it makes little difference.
- Layers have the same density, so that methods compare; with a library the first 3 x 3 layer keeps
  all its kernels, and the others make up for it. Other weights (linear, and with a library all but
  3 x 3) are pruned one by one.
- The channels of coupled layers are those that the first of them chose, since neither can go alone;
  they are removed. Layers that make no such channel, such as the classifier, stay as they are.
- No synthetic image counts as training; the seconds are those of pruning.
- The compiler that reorders kernels is out of scope: latency is that of the benchmark's paths.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Masks, PatternError, channels, prunable
from bench.surgery.inputs import passed
from bench.surgery.projection import Filters, Patterns, Projection, Structure, projection
from bench.trainer import Trainer


class PrivacyAdmm(Method):
    """Prune by ADMM on random images, then train with the mask."""

    family = "projection"
    patterns = ("unstructured", "column", "kernel", "channel")
    citation = "Gong et al., GLSVLSI 2020"

    density: Density = 0.1
    pattern: Structure = Field("unstructured", description="the set S that weights are put into")
    rho: float = Field(1e-2, gt=0, description="first penalty, of the layer's mean squared input")
    levels: int = Field(4, ge=1, description="penalties, each ten times the last")
    iterations: int = Field(25, ge=1, description="updates of W, Z and U at each penalty")
    images: int = Field(1024, ge=1, description="synthetic images for each layer")
    library: int = Field(
        0, ge=0, description="kernel: patterns of a 3 x 3 kernel (8 are usual); 0: whole kernels"
    )
    together: bool = Field(False, description="all layers at once instead of one after another")

    @model_validator(mode="after")
    def _meant(self) -> PrivacyAdmm:
        if self.library and self.pattern != "kernel":
            raise ValueError("library is for pattern: kernel")
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """The designer's part on synthetic images, then the client's training; one point."""
        if trainer.data.task.name != "classification":
            raise PatternError("privacy_admm draws random images: it needs a net that reads images")
        masks = Masks()
        with trainer.spend("prune"):
            onto = projection(model, trainer.shape, self.density, self.pattern, self.library)
            if isinstance(onto, Patterns):
                for places, count in onto.library.items():
                    trainer.log("pattern", places=" ".join(map(str, places)), kernels=count)
            self.design(model, onto, trainer)
        if isinstance(onto, Filters):
            model = channels.shrink(model, trainer.shape, onto.keep)
        else:
            masks.update({n: w.detach() != 0 for n, w in prunable(model).items()})
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    @torch.no_grad()
    def design(self, model: nn.Module, onto: Projection | Filters, trainer: Trainer) -> None:
        """Bring each weight of `model` into its set, in place, without any sample."""
        teacher, weights = copy.deepcopy(model).eval(), prunable(model)
        stream, was = trainer.generator("images"), model.training
        device = next(model.parameters()).device

        def draw(size: int) -> Tensor:
            pixels = torch.randint(256, (size, *trainer.shape), generator=stream)
            return trainer.data.normalise(pixels.to(torch.uint8).to(device))

        model.eval()
        for part in [list(onto.names)] if self.together else [[name] for name in onto.names]:
            for name, (gram, cross) in self.moments(model, teacher, part, draw).items():
                for line in self.solve(weights[name], gram, cross, partial(onto.mask, name)):
                    trainer.log("admm", layer=name, **line)
            if isinstance(onto, Filters):  # nothing of what goes is left for the next layer to see
                channels.mask(model, onto.view.groups.values(), onto.keep)
        model.train(was)

    def moments(
        self,
        model: nn.Module,
        teacher: nn.Module,
        names: Sequence[str],
        draw: Callable[[int], Tensor],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Weight -> X X^T, (groups, columns, columns), and W' X' X^T, (groups, out, columns).

        Means over the places of synthetic images, float64.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        dense = prunable(teacher)
        for size in [64] * (self.images // 64) + [self.images % 64] * bool(self.images % 64):
            batch = draw(size)
            own, taught = passed(model, names, batch), passed(teacher, names, batch)
            for name in names:
                x = own[name].double()
                out = rows(dense[name], len(x)) @ taught[name].double()
                share = size / self.images / x.shape[2]
                parts = share * x @ x.transpose(1, 2), share * out @ x.transpose(1, 2)
                old = found.get(name, (torch.zeros_like(parts[0]), torch.zeros_like(parts[1])))
                found[name] = old[0] + parts[0], old[1] + parts[1]
        return found

    def solve(
        self, weight: Tensor, gram: Tensor, cross: Tensor, mask: Callable[[Tensor], Tensor]
    ) -> Iterator[dict[str, float]]:
        """(1) for `weight`, in place; for each penalty how far W is from the set."""
        unit = gram.diagonal(dim1=1, dim2=2).mean() or 1.0  # a dead layer reads nothing
        one = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        w = rows(weight, len(gram))

        def near(value: Tensor) -> Tensor:
            return value * rows(mask(value.view(weight.shape)), len(gram))

        z, u = near(w), torch.zeros_like(w)
        for level in range(self.levels):
            rho = self.rho * 10**level * unit
            factor = torch.linalg.cholesky(2 * gram + rho * one)
            for _ in range(self.iterations):
                right = (2 * cross + rho * (z - u)).transpose(1, 2)
                w = torch.cholesky_solve(right, factor).transpose(1, 2)  # (2)
                z = near(w + u)
                u = u + w - z  # (3)
            yield {
                "rho": self.rho * 10**level,
                "away": float((w - z).norm() / w.norm().clamp_min(1e-30)),
            }
        weight.copy_(near(w).view(weight.shape))


def rows(weight: Tensor, groups: int) -> Tensor:
    """A weight or its mask as matrices, (groups, out / groups, columns), in float64."""
    return weight.detach().double().flatten(1).unflatten(0, (groups, -1))
