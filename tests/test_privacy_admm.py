"""Privacy-preserving pruning: its sets, the library of patterns, ADMM, and that no data is read."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn

from bench import data
from bench.method import MethodError, make
from bench.surgery import PatternError, channels, nonzero, prunable
from bench.surgery import kernel_patterns as kp
from bench.surgery.inputs import passed
from bench.surgery.projection import projection
from tests.contract_bench import Bench

STRUCTURES = [("unstructured", 0), ("channel", 0), ("column", 0), ("kernel", 0), ("kernel", 8)]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


@pytest.fixture(scope="module")
def net(digits):
    return Bench(digits, "resnet8", "magnitude").start()


@pytest.mark.parametrize(("structure", "library"), STRUCTURES)
def test_projections_are_idempotent_and_at_the_density(net, digits, structure, library):
    onto = projection(net, digits.shape, 0.3, structure, library)
    weights = {n: prunable(net)[n].detach() for n in onto.names}
    kept = {n: onto.mask(n, w) for n, w in weights.items()}
    once = {n: w * kept[n] for n, w in weights.items()}
    again = {n: w * onto.mask(n, w) for n, w in once.items()}
    assert all(torch.equal(once[n], again[n]) for n in once)
    if structure == "channel":
        smaller = channels.shrink(net, digits.shape, onto.keep)
        left = sum(w.numel() for w in prunable(smaller).values())
    else:
        left = sum(int(m.sum()) for m in kept.values())
    whole = sum(w.numel() for w in prunable(net).values())
    assert left / whole == pytest.approx(0.3, rel=0.25 if structure == "channel" else 0.01)


@pytest.mark.parametrize(("structure", "axes"), [("column", (0,)), ("kernel", (2, 3))])
def test_projections_keep_the_units_of_largest_l2_norm(net, digits, structure, axes):
    """Small and many against large and few: by L1 another unit would stay."""
    onto = projection(net, digits.shape, 0.3, structure)
    for name in onto.names:
        weight = prunable(net)[name].detach()
        if weight.dim() < 3 and structure == "kernel":
            continue
        mask = onto.mask(name, weight)
        part = mask.double().mean(axes)
        assert ((part == 0) | (part == 1)).all(), name
        norm = weight.square().sum(axes)
        assert float(norm[part == 1].min()) >= float(norm[part == 0].max()), name


def test_unstructured_keeps_the_largest(net, digits):
    onto = projection(net, digits.shape, 0.3, "unstructured")
    weight = prunable(net)["stages.0.0.conv1.weight"].detach()
    mask = onto.mask("stages.0.0.conv1.weight", weight)
    assert float(weight[mask].abs().min()) >= float(weight[~mask].abs().max())


def test_natural_patterns_are_the_centre_and_the_three_largest_others():
    kernel = torch.tensor([[9.0, 1, 2], [3, 0, 4], [5, 6, 7]])
    found = kp.natural(kernel.view(1, 1, 3, 3))
    assert found[0].nonzero()[:, 0].tolist() == [0, 4, 7, 8]


def test_the_library_holds_the_most_frequent_patterns():
    a, b, c = torch.zeros(3, 1, 1, 3, 3)
    a[..., 0, :] = b[..., 2, :] = c[..., :, 0] = 5
    found = kp.library([torch.cat([a, b, a]), torch.cat([c, b, a])], 2)
    assert found == {(0, 1, 2, 4): 3, (4, 6, 7, 8): 2}


def test_each_kernel_takes_the_pattern_that_retains_the_most_energy(net, digits):
    onto = projection(net, digits.shape, 0.3, "kernel", 8)
    assert 0 < len(onto.library) <= 8
    name = "stages.1.0.conv2.weight"
    weight = prunable(net)[name].detach()
    fitted = kp.fitted(weight, onto.patterns).view(-1, 9)
    energy = weight.view(-1, 9).square()
    chosen = (energy * fitted).sum(1)
    for pattern in onto.patterns:
        assert (chosen >= (energy * pattern).sum(1) - 1e-12).all()
    assert (fitted.sum(1) == 4).all()
    per_kernel = onto.mask(name, weight).view(-1, 9).sum(1)
    assert set(per_kernel.tolist()) <= {0, 4}
    # the first layer keeps all its kernels
    assert (onto.mask("conv1.weight", prunable(net)["conv1.weight"]).view(-1, 9).sum(1) == 4).all()


def test_a_density_that_patterns_cannot_reach_is_refused(net, digits):
    with pytest.raises(PatternError, match="out of reach"):
        projection(net, digits.shape, 0.6, "kernel", 8)


def solved(gram, cross, weight, keep, **params):
    """How far each penalty left the weight from the set of `keep` entries, and the weight."""

    def mask(w):
        chosen = w.abs().flatten().topk(keep).indices
        return torch.zeros(w.numel(), dtype=torch.bool).scatter(0, chosen, True).view(w.shape)

    with torch.no_grad():
        lines = list(make("privacy_admm", params).solve(weight, gram, cross, mask))
    return [line["away"] for line in lines], weight


def test_admm_reaches_the_set_and_is_nearer_to_the_layer_than_projection():
    draws = torch.Generator().manual_seed(0)
    mixed = torch.randn(30, 30, generator=draws, dtype=torch.float64)
    x = mixed @ torch.randn(30, 500, generator=draws, dtype=torch.float64)
    dense = torch.randn(8, 30, generator=draws, dtype=torch.float64)
    gram, cross = (x @ x.T)[None] / 500, (dense @ x @ x.T)[None] / 500
    away, weight = solved(gram, cross, dense.clone(), 80)
    assert away[-1] < 0.05
    assert away[-1] < away[0]
    assert int(weight.count_nonzero()) == 80

    def error(w):
        return float(((w - dense) @ x).square().sum())

    flat = dense.abs().flatten()
    largest = (flat >= flat.topk(80).values[-1]).view(dense.shape)
    assert error(weight) < 0.7 * error(dense * largest)


def test_without_a_constraint_admm_finds_the_least_squares_solution():
    draws = torch.Generator().manual_seed(0)
    own, taught = (torch.randn(6, 200, generator=draws, dtype=torch.float64) for _ in range(2))
    dense = torch.randn(3, 6, generator=draws, dtype=torch.float64)
    gram, cross = (own @ own.T)[None] / 200, (dense @ taught @ own.T)[None] / 200
    _, weight = solved(gram, cross, dense.clone(), 18, iterations=2000, levels=1, rho=0.1)
    best = torch.linalg.lstsq(own.T, (dense @ taught).T).solution.T
    assert torch.allclose(weight, best, atol=1e-6)


@pytest.mark.parametrize(("structure", "library"), STRUCTURES)
@pytest.mark.parametrize("together", [False, True])
def test_no_sample_is_read_before_the_client_trains(digits, structure, library, together):
    bench = Bench(
        digits, "resnet8", "privacy_admm", pattern=structure, library=library, images=64,
        iterations=2, together=together,
    )  # fmt: skip
    start, trainer = bench.start(), bench.trainer()
    trained = []

    def fit(model, *args, masks, **kwargs):
        trained.append((nonzero(model), masks))

    split, read = type(digits.train), AssertionError("a sample was read")
    with (
        mock.patch.object(trainer, "fit", fit),
        mock.patch.object(split, "batches", side_effect=read),
        mock.patch.object(split, "images", mock.PropertyMock(side_effect=read), create=True),
    ):
        next(bench.method.compress(start, trainer))
    ((left, masks),) = trained
    assert [line for line in bench.lines if line["event"] == "admm"]
    if structure != "channel":
        assert (
            left.kept()
            == masks.kept()
            == pytest.approx(0.3 * sum(m.numel() for m in left.values()), rel=0.01)
        )
    if library:
        found = [line for line in bench.lines if line["event"] == "pattern"]
        assert all(len(line["places"].split()) == 4 for line in found)
        for mask in left.values():
            if mask.shape[2:] == (3, 3):
                assert int(mask.flatten(2).sum(2).max()) == 4


def test_layers_are_solved_in_turn_behind_the_pruned_ones(digits):
    """Against least squares by hand: what the second layer reads, and what it should give."""
    bench = Bench(digits, "lenet300", "privacy_admm", images=64, density=1.0)
    model, teacher = bench.initial().eval(), bench.initial().eval()
    first, second = list(prunable(model))[:2]

    def draw(size):
        return torch.rand(size, *digits.shape, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        prunable(model)[first].mul_(0.5)
        gram, cross = bench.method.moments(model, teacher, [second], draw)[second]
    batch = draw(64)
    own, taught = (passed(net, [second], batch)[second][0].double() for net in (model, teacher))
    target = prunable(teacher)[second].detach().double() @ taught
    assert torch.allclose(gram[0], own @ own.T / 64, atol=1e-9)
    assert torch.allclose(cross[0], target @ own.T / 64, atol=1e-9)
    assert not torch.allclose(own, taught)


def test_the_design_solves_later_layers_with_what_earlier_ones_became(digits):
    seen, real = [], make("privacy_admm", {}).moments.__func__

    def moments(self, model, teacher, names, draw):
        weights = prunable(model)
        seen.append(([int((w == 0).sum()) for w in weights.values()], list(names)))
        return real(self, model, teacher, names, draw)

    for together in (False, True):
        seen.clear()
        bench = Bench(digits, "lenet300", "privacy_admm", images=64, together=together)
        with mock.patch.object(type(bench.method), "moments", moments):
            bench.points()
        zeros = [sum(count > 0 for count in counts) for counts, _ in seen]
        assert zeros == ([0] if together else [0, 1, 2])


def test_a_library_is_for_kernels():
    with pytest.raises(MethodError, match="library is for pattern: kernel"):
        make("privacy_admm", {"library": 8})


def test_fields_have_no_images_to_draw():
    method = make("privacy_admm", {})
    trainer = mock.Mock()
    trainer.data.task.name = "field"
    with pytest.raises(PatternError, match="images"):
        next(method.compress(nn.Linear(2, 2), trainer))
