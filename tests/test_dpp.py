"""DPP: draws of k of n and their gradients, groups, quantisers, metrics, and whole trainings."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from bench import data, models, selection
from bench.method import MethodError, load, make
from bench.surgery import PatternError, candidates, nonzero, prunable
from bench.surgery.topk import gumbel, relax, straight_through, top
from bench.training import Training
from tests import contract_bench
from tests.contract_bench import Bench

FILTER = {"granularity": "filter", "pattern": "unstructured"}
KINDS = (
    {}, {"granularity": "tap"}, FILTER, {"pattern": "kernel"}, {"tiles": 2, "uneven": "dense"},
    {"pattern": "*:4", "uneven": "dense"}, {"pattern": "channel"},
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def recipes(train: float, finetune: float, lr: float = 0.05):
    """Other trainings than the contract's."""
    return mock.patch.multiple(
        contract_bench,
        TRAIN=contract_bench.TRAIN.model_copy(update={"epochs": train, "lr": lr}),
        FINETUNE=contract_bench.FINETUNE.model_copy(update={"epochs": finetune}),
    )


def naive(z: Tensor, k: int, tau: float, by_index: bool = False) -> Tensor:
    """Draw by draw, as the paper's code writes it."""
    winners = z.topk(k, 1).indices
    winners = winners.sort(1).values if by_index else winners
    gone, total = torch.zeros_like(z), torch.zeros_like(z)
    for j in range(k):
        total = total + torch.softmax(z / tau + gone, 1)
        gone = gone.scatter(1, winners[:, j : j + 1], -math.inf)
    return total


def test_golden_relaxation():
    z = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
    soft, winners = relax(z, 2, 1.0, "softmax")
    assert soft[0].tolist() == pytest.approx([0.3589, 0.9758, 0.6652], abs=1e-4)
    assert sorted(winners[0].tolist()) == [1, 2]
    assert straight_through(z, 2, 1.0).tolist() == [[0.0, 1.0, 1.0]]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (7, 3), (30, 10), (7, 7)])
@pytest.mark.parametrize(("tau", "scale"), [(0.05, 1), (5, 1), (0.5, 300)])
@pytest.mark.parametrize("kind", ["softmax", "softmax_by_index"])
def test_the_closed_form_is_the_sum_over_draws(n, k, tau, scale, kind):
    stream = torch.Generator().manual_seed(n + k)
    z = (scale * torch.randn(5, n, generator=stream, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(5, n, generator=stream, dtype=torch.float64)
    soft, wanted = relax(z, k, tau, kind)[0], naive(z, k, tau, kind != "softmax")
    assert torch.allclose(soft, wanted, atol=1e-10)
    assert torch.allclose(soft.sum(1), torch.full((5,), float(k), dtype=torch.float64))
    ours, theirs = (torch.autograd.grad((s * upstream).sum(), z)[0] for s in (soft, wanted))
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("kind", ["softmax", "softmax_by_index", "sigmoid"])
def test_gradients_are_those_of_the_values(kind):
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: relax(z, 3, 0.7, kind)[0], z.requires_grad_())


def test_float32_keeps_the_late_draws_behind_a_winner_that_is_far_ahead():
    z = torch.tensor([[1024.0, 3.0, 2.0, 1.0]])
    assert relax(z, 2, 0.5, "softmax")[0][0].tolist() == pytest.approx(
        naive(z.double(), 2, 0.5)[0].tolist(), rel=1e-3
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_masks_and_weights_both_get_their_gradient(kind):
    """dL/dW = dL/dW~ mask; the logits' is dense, through dL/dmask = dL/dW~ W."""
    z = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(2)).requires_grad_()
    mask = straight_through(z, 3, 1.0, kind)
    assert set(mask.detach().unique().tolist()) == {0.0, 1.0}
    upstream = torch.randn(4, 9, generator=torch.Generator().manual_seed(3))
    (mask * weight * upstream).sum().backward()
    assert torch.equal(weight.grad, upstream * mask.detach())
    soft = torch.autograd.grad((relax(z, 3, 1.0, kind)[0] * upstream * weight.detach()).sum(), z)[0]
    assert torch.allclose(z.grad, soft)
    assert (z.grad[mask == 0] != 0).all()


def test_draws_are_without_replacement_with_the_exact_chances():
    phi = torch.log(torch.tensor([[1.0, 2.0, 3.0]])).expand(200_000, 3)
    drawn = top(phi + gumbel(phi.shape, torch.Generator().manual_seed(0)), 2)
    assert (drawn.sum(1) == 2).all()
    assert drawn.double().mean(0).tolist() == pytest.approx([0.41667, 0.73333, 0.85], abs=4e-3)


@pytest.mark.parametrize("k", [2, 3, 9, 40])
@pytest.mark.parametrize(("n", "spread"), [(10, 0.5), (25, 2.0), (100, 0.5), (100, 5.0)])
def test_inclusion_chances_are_those_of_draws(n, k, spread):
    if k >= n:
        pytest.skip("no choice")
    phi = spread * torch.randn(3, n, generator=torch.Generator().manual_seed(n))
    chances = selection.inclusion(phi, k, torch.Generator().manual_seed(1))
    assert chances.sum(1).tolist() == pytest.approx([k] * 3, rel=0.01)
    z = phi + gumbel((5000, *phi.shape), torch.Generator().manual_seed(0))
    drawn = top(z.reshape(-1, n), k).view(5000, 3, n).double().mean(0)
    # four deviations of a count of 5,000 draws
    assert (drawn - chances).abs().max() < 0.03


def test_inclusion_chances_of_the_published_example():
    phi = torch.tensor([[1.0, 2.0, 3.0]]).log()
    chances = selection.inclusion(phi, 2, torch.Generator().manual_seed(0))
    assert chances[0].tolist() == pytest.approx([0.41667, 0.73333, 0.85], abs=0.01)


def test_metrics_have_their_sanity_values():
    apart, alike = torch.eye(2), torch.tensor([[0.3, 0.7], [0.3, 0.7]])
    assert selection.diversity(apart, 1) == pytest.approx(1)  # J = log 2, its bound
    assert selection.diversity(alike, 1) == pytest.approx(0, abs=1e-12)
    blocks = torch.eye(3).repeat_interleave(4, 1)  # three neurons, four inputs each of twelve
    assert selection.diversity(blocks, 4) == pytest.approx(1)
    assert selection.diversity(torch.ones(1, 4) / 2, 2) is None
    # two rows of two tiles: the first tiles are alike, the second ones disjoint
    tiled = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    assert selection.diversity(tiled, 1, tiles=2) == pytest.approx(0.5)
    flat, sure = torch.zeros(2, 8), torch.tensor([[1e3, *[0.0] * 7]])
    assert selection.confidence(flat).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert selection.confidence(sure).tolist() == pytest.approx([1])
    even = torch.full((2, 8), 3 / 8, dtype=torch.float64)
    assert selection.mask_confidence(even, 3).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert selection.mask_confidence(torch.tensor([[1.0, 1, 1, 0, 0]]), 3).tolist() == [1]


def test_the_temperature_falls_linearly_over_the_epochs():
    dpp = make("dpp", {})
    assert [dpp.temperature(e, 10) for e in (0, 9)] == [5, 0.5]
    assert dpp.temperature(3, 7) == pytest.approx(5 * (1 - 0.9 * 3 / 6))
    assert make("dpp", {"tau": 2, "tau_end": 2}).temperature(4, 9) == 2


def chosen(groups: int, n: int, k: int) -> Tensor:
    return top(torch.rand(groups, n, generator=torch.Generator().manual_seed(0)), k)


@pytest.mark.parametrize(
    ("granularity", "axes"),
    [("output", (1, 2, 3)), ("tap", (2, 3)), ("filter", (0,)), ("kernel", (1,))],
)
def test_groups_lie_where_the_granularity_says(granularity, axes):
    net = nn.Sequential(nn.Conv2d(5, 7, 3), nn.Flatten(), nn.Linear(63, 10))
    layer = candidates.weights(net, granularity)["0.weight"]
    k = layer.n // 2
    mask = layer.masks(chosen(layer.groups, layer.n, k))["0.weight"]
    if granularity == "kernel":  # exactly k kernels of every feature map: no reshape does that
        assert mask.shape == (7, 5, 1, 1)
    assert (mask.sum(axes) == k).all()
    linear = candidates.weights(net, granularity)["2.weight"]
    assert (linear.masks(chosen(10, 63, 4))["2.weight"].sum(1) == 4).all()


def test_tiles_hold_k_each_and_refuse_or_keep_what_is_left():
    net = nn.Linear(10, 3)
    with pytest.raises(PatternError, match=r"'weight'.* 10 .*tiles of 4; uneven"):
        candidates.weights(net, "output", tile=4)
    layer = candidates.weights(net, "output", tile=4, uneven="dense")["weight"]
    assert (layer.groups, layer.n, layer.step, layer.free) == (6, 4, 6, 6)
    mask = layer.masks(chosen(6, 4, 2))["weight"]
    assert (mask[:, :8].view(3, 2, 4).sum(2) == 2).all()
    assert mask[:, 8:].all()
    assert candidates.weights(net, "output", tiles=2)["weight"].n == 5
    short = nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 3))
    with pytest.raises(PatternError, match=r"'0.weight'.* 2 .*4 tiles"):
        candidates.weights(short, "output", tiles=4)
    assert list(candidates.weights(short, "output", tiles=4, uneven="dense")) == ["1.weight"]
    with pytest.raises(PatternError, match="all stay dense"):
        make("dpp", {"tiles": 9, "uneven": "dense"}).layout.groups(short, (2,), 0.5)


@pytest.mark.parametrize("params", KINDS[:-1])
@pytest.mark.parametrize("density", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("arch", ["resnet8", "lstm", "lenet300"])
def test_counts_reach_the_density_to_within_a_group(digits, arch, density, params):
    net = models.build(arch, digits.shape, digits.classes)
    found, k = make("dpp", params).layout.groups(net, digits.shape, density)
    total = sum(w.numel() for w in prunable(net).values())
    masks = {}
    for name, c in found.items():
        masks |= c.masks(chosen(c.groups, c.n, k[name]))
    kept = sum(int(m.expand(w.shape).sum()) for m, w in zip(
        masks.values(), prunable(net).values(), strict=True))  # fmt: skip
    assert abs(kept - density * total) <= max(c.step for c in found.values())


def test_an_impossible_density_is_refused(digits):
    net = models.build("lenet300", digits.shape, digits.classes)
    with pytest.raises(PatternError, match="at least one of each group"):
        make("dpp", {}).layout.groups(net, digits.shape, 1e-3)


def sums(layer: candidates.Candidates, mask: Tensor) -> Tensor:
    """What each group of a mask keeps, counted where the granularity says that it lies."""
    if isinstance(layer, candidates.Channels):
        return mask.sum()[None] / (mask.numel() // layer.n)
    if layer.granularity == "tap":
        return mask.sum((2, 3))
    if layer.granularity == "filter":
        return mask.sum(0)
    if layer.granularity == "kernel":
        return mask.sum(1)
    rows = mask.flatten(1)
    return rows[:, : rows.shape[1] // layer.n * layer.n].unflatten(1, (-1, layer.n)).sum(2)


@pytest.mark.parametrize("params", KINDS, ids=str)
def test_every_group_keeps_exactly_k_at_every_step_of_a_training(digits, params):
    drawn: list[dict[str, Tensor]] = []
    stored: list[dict[str, Tensor]] = []
    seen, update = load("dpp").seen, Training.update

    def spy(self, model, own, masks):
        if torch.is_grad_enabled():
            drawn.append({name: mask.detach().clone() for name, mask in masks.items()})
        return seen(self, model, own, masks)

    def step(self, model, *rest):
        done = update(self, model, *rest)
        stored.append(nonzero(model))
        return done

    with (
        recipes(1, 0.5),
        mock.patch.object(load("dpp"), "seen", spy),
        mock.patch.object(Training, "update", step),
    ):
        bench = Bench(digits, "resnet8", "dpp", freeze=0.5, noise=1, **params)
        found, k = bench.method.layout.groups(bench.initial(), digits.shape, bench.method.density)
        points, trainer = bench.points()
    draws = round(0.5 * trainer.step)
    for masks in drawn:
        for name, layer in found.items():
            for weight in layer.masks(torch.ones(layer.groups, layer.n)):
                assert (sums(layer, masks[weight]) == k[name]).all()
    moved = [any(bool((a[n] != b[n]).any()) for n in a) for a, b in itertools.pairwise(drawn)]
    assert all(moved[: draws - 1])
    left = nonzero(points[0])
    if "channel" in params.values():  # masked where they are read, so at every step
        assert len(drawn) == trainer.step
        assert not any(moved[draws:])
        assert len(left["conv1.weight"]) < len(nonzero(bench.initial())["conv1.weight"])
    else:
        assert left.kept() == sum(k[n] * c.step + c.free for n, c in found.items())
        assert len(drawn) == draws + 1
        assert all(torch.equal(m.bool().expand_as(left[n]), left[n]) for n, m in drawn[-1].items())
        assert all(torch.equal(kept[n], left[n]) for kept in stored[draws:] for n in left)


def test_pruned_weights_recover_while_masks_are_drawn(digits):
    bench = Bench(digits, "lenet300", "dpp", freeze=0.9, logit_lr=0.2)
    bench.points()
    lines = [line for line in bench.lines if line["event"] == "selection"]
    assert {line["layer"] for line in lines} == set(prunable(bench.initial()))
    assert max(line["recovered"] for line in lines) > 0.01
    assert max(line["turnover"] for line in lines) > 0.5
    assert [line["tau"] for line in lines][::3] == pytest.approx([5, 3.5, 2, 0.5])
    for line in lines:
        assert all(0 <= line[c] <= 1 for c in ("confidence", "mask_confidence", "diversity"))


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("int8", {}), ("ternary", {}), ("binary", {}),
        ("int8", {"quantiser": "author"}), ("binary", {"quantiser": "author"}),
        ("int8", {"pattern": "channel"}),
    ],
)  # fmt: skip
def test_a_quantised_training_learns_and_yields_quantised_weights(digits, kind, params):
    bench = Bench(digits, "lenet300", "dpp", quantise=kind, **params)
    points, trainer = bench.points()
    for weight in prunable(points[0]).values():
        assert len(weight.unique()) <= {"int8": 255, "ternary": 3, "binary": 3}[kind]
        assert torch.allclose(weight.abs().max(), weight.max().maximum(-weight.min()))
    if "pattern" not in params:  # chance is 0.1
        assert trainer.validate(points[0]).top1 > 0.5


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"pattern": "block:2x2"}, "none of k-of-n"),
        ({"granularity": "tap", "pattern": "k-of-n:16"}, "granularity 'tap': not with"),
        ({"granularity": "tap", "pattern": "kernel"}, "granularity 'tap' does not make"),
        ({"pattern": "unstructured"}, "filter makes unstructured"),
        ({"pattern": "channel", "tiles": 2}, "tiles 2"),
        ({"pattern": "channel", "uneven": "dense"}, "uneven 'dense'"),
        ({"pattern": "channel", "dense_output": True}, "dense_output"),
        ({"pattern": "2:4", "dense_output": True}, r"dense_output: .*'\*:4'"),
        ({"noise": -1}, "noise"),
    ],
)
def test_what_does_not_fit_together_is_refused(params, match):
    with pytest.raises(MethodError, match=match):
        make("dpp", params)


def test_outputs_that_share_their_inputs_choose_together(digits):
    bench = Bench(digits, "lenet300", "dpp", density=0.1, pattern="k-of-n:20", uneven="dense")
    with recipes(4, 5, lr=0.1):
        points, trainer = bench.points()
    kept = nonzero(points[-1])
    assert kept.density(points[-1]) == pytest.approx(0.1, abs=0.005)
    weights = list(kept)
    for name in weights[:-1]:  # of 300 and 100 outputs; the last layer's ten stay dense
        groups = kept[name].view(-1, 20, kept[name].shape[1])
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].sum(1).tolist())) == 1
        assert (groups[0, 0] != groups[1, 0]).any()
    assert kept[weights[-1]].all()
    assert trainer.validate(points[-1]).top1 > 0.5  # chance is 0.1


def test_beats_random_masks_of_the_same_layer_counts(digits):
    with recipes(10, 5, lr=0.1):
        learned = Bench(digits, "lenet300", "dpp", density=0.05)
        points, trainer = learned.points()
        kept = {n: int(m.sum()) for n, m in nonzero(points[-1]).items()}
        control = Bench(
            digits, "lenet300", "random", density=0.05, allocation=kept, pattern="k-of-n"
        )
        controls, other = control.points()
    assert {n: int(m.sum()) for n, m in nonzero(controls[-1]).items()} == kept
    assert trainer.validate(points[-1]).top1 > other.validate(controls[-1]).top1 + 0.15
