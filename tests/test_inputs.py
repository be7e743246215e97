"""What weights are multiplied with, OWL's and AlphaPruning's densities, SparseGPT, OBD."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench import data
from bench.method import make
from bench.surgery import PatternError, prunable
from bench.surgery.inputs import grams, operands, squares
from methods.alpha_pruning import filled, hill
from methods.owl import metric, outliers
from methods.sparsegpt import shared_out
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


LAYERS = [
    (nn.Linear(6, 4, bias=False), (5, 6)),
    (nn.Linear(6, 4, bias=False), (5, 3, 6)),
    (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 8, 7)),
    (nn.Conv2d(3, 4, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), bias=False), (2, 3, 8, 7)),
    (nn.Conv2d(6, 4, 3, groups=2, padding=1, bias=False), (2, 6, 5, 5)),
    (nn.Conv2d(6, 6, 3, groups=6, bias=False), (2, 6, 5, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda x: str(x))
def test_a_weight_times_its_operand_is_what_the_layer_gives(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = layer(x)
    wanted = (
        out.flatten(0, -2).T if isinstance(layer, nn.Linear) else out.transpose(0, 1).flatten(1)
    )
    (found,) = operands(layer, x, out).values()
    rows = layer.weight.flatten(1).unflatten(0, (len(found), -1))
    assert torch.allclose((rows @ found).flatten(0, 1), wanted, atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_recurrent_layer_s_operands_give_its_first_gates(batch_first):
    torch.manual_seed(0)
    layer = nn.RNN(3, 5, batch_first=batch_first, bias=False)
    x = torch.randn(4, 4, 3)
    out = layer(x)
    found = operands(layer, x, out)
    total = (
        layer.weight_ih_l0 @ found["weight_ih_l0"][0]
        + layer.weight_hh_l0 @ found["weight_hh_l0"][0]
    )
    assert torch.allclose(torch.tanh(total), out[0].flatten(0, 1).T, atol=1e-6)


def test_layers_with_unknown_operands_are_refused():
    for layer, shape in (
        (nn.ConvTranspose2d(2, 2, 3), (1, 2, 4, 4)),
        (nn.LSTM(3, 3, 2), (2, 2, 3)),
    ):
        with pytest.raises(PatternError, match=type(layer).__name__):
            squares(layer, [torch.ones(shape)])


def test_moments_are_sums_over_all_batches():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 2), torch.randn(6, 2, 4, 4)
    whole = operands(layer, x, None)["weight"].double()
    assert torch.allclose(squares(layer, x.split(4))["weight"], whole.square().sum(2), atol=1e-9)
    gram = (whole @ whole.transpose(1, 2)) / whole.shape[2]
    assert torch.allclose(grams(layer, x.split(4))["weight"], gram, atol=1e-9)
    assert not layer._forward_hooks


def test_owl_s_metric_and_outliers_are_those_of_the_definition():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2, 0], [3, 0, 1]]))
    found = metric(layer, squares(layer, [torch.tensor([[3.0, 1, 2], [4, 0, 0]])]))["weight"]
    assert torch.allclose(found, torch.tensor([[5.0, 2, 0], [15, 0, 2]]))
    assert outliers(found, 3) == pytest.approx(100 / 6)  # the mean is 4
    assert outliers(found, 4) == 0


def test_owl_by_wanda_keeps_the_same_number_in_every_row(digits):
    """The layers' numbers follow the outliers."""
    bench = Bench(digits, "resnet8", "owl", rank="wanda")
    points, _ = bench.points()
    for mask in bench.masks[0].values():
        assert len(set(mask.flatten(1).sum(1).tolist())) == 1
    assert points
    levels = {line["density"] for line in bench.lines if line["event"] == "allocation"}
    assert len(levels) > 1


def test_owl_spreads_densities_by_twice_lambda_and_keeps_the_total():
    owl, shares = make("owl", {"density": 0.4}), {"a": 1.0, "b": 3.0, "c": 2.0}
    even = owl.densities(shares, dict.fromkeys(shares, 1000))
    assert even == pytest.approx({"a": 0.32, "b": 0.48, "c": 0.4})
    sizes = {"a": 1000, "b": 3000, "c": 500}
    found = owl.densities(shares, sizes)
    assert sum(found[n] * sizes[n] for n in sizes) == pytest.approx(0.4 * 4500)
    assert found["b"] - found["a"] == pytest.approx(0.16)
    low = make("owl", {"density": 0.02}).densities(shares, sizes)
    assert min(low.values()) > 0
    assert low["b"] - low["a"] == pytest.approx(0.02)
    same = owl.densities(dict.fromkeys(shares, 2.0), sizes)
    assert same == pytest.approx(dict.fromkeys(shares, 0.4))


def test_hill_s_estimator_has_its_value_and_finds_the_exponent_of_a_pareto_tail():
    # eigenvalues 8, 4, 2, 1: the upper two, from 4 on
    weight = torch.diag(torch.tensor([8.0, 4, 2, 1])).sqrt()
    assert hill(weight) == pytest.approx(1 + 2 / math.log(2))
    assert hill(3 * weight) == pytest.approx(hill(weight))
    padded = torch.zeros(40, 40)
    padded[:4, :4] = weight
    assert hill(padded) == pytest.approx(hill(weight))  # zeros are no tail
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0)).double()
    assert hill(torch.diag((1 - uniform) ** (-1 / 1.5)).sqrt()) == pytest.approx(2.5, rel=0.05)


def test_layers_without_a_tail_get_the_mean_of_the_others():
    for weight in (torch.zeros(4, 4), torch.eye(6), torch.ones(5, 1), torch.ones(4, 4)):
        assert hill(weight) is None
    assert filled({"a": 2.0, "b": None, "c": 4.0}) == {"a": 2.0, "b": 3.0, "c": 4.0}
    assert len(set(filled({"a": None, "b": None}).values())) == 1


def test_alpha_pruning_maps_exponents_to_sparsities_and_keeps_the_total():
    method = make("alpha_pruning", {"density": 0.5, "eps": 0.2})
    alphas, sizes = {"a": 2.0, "b": 4.0, "c": 3.0}, {"a": 100, "b": 100, "c": 100}
    assert method.densities(alphas, sizes) == pytest.approx({"a": 0.6, "b": 0.4, "c": 0.5})
    sizes = {"a": 100, "b": 4000, "c": 700}
    found = method.densities(alphas, sizes)
    assert found["a"] > found["c"] > found["b"]
    assert sum(found[n] * sizes[n] for n in sizes) == pytest.approx(2400)
    assert (1 - found["b"]) / (1 - found["a"]) == pytest.approx(1.2 / 0.8)
    low = make("alpha_pruning", {"density": 0.01}).densities(alphas, sizes)
    assert min(low.values()) > 0
    assert sum(low[n] * sizes[n] for n in sizes) == pytest.approx(48)


@pytest.mark.parametrize("output", [False, True])
def test_the_output_layer_has_no_tail_of_its_own_unless_asked_for(digits, output):
    bench = Bench(digits, "resnet8", "alpha_pruning", output=output)
    bench.points()
    *others, last = [line["measure"] for line in bench.lines if line["event"] == "allocation"]
    assert (last == pytest.approx(sum(others) / len(others))) == (not output)


def moments(columns: int, places: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    mixed = torch.randn(columns, columns, generator=draws, dtype=torch.float64)
    x = mixed @ torch.randn(columns, places, generator=draws, dtype=torch.float64)
    return x, x @ x.T / places


def test_sparsegpt_repairs_one_pruned_weight_as_the_optimal_brain_surgeon_does():
    """Pruning the first column: all others are free, so the update is OBS's, and it is optimal."""
    x, gram = moments(6)
    method = make("sparsegpt", {"damp": 1e-9})
    weight = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight[0, 0] = 0.05  # the least salient
    found, kept = method.pruned(weight, gram, 5)
    assert kept[0].tolist() == [False, True, True, True, True, True]
    inverse = torch.linalg.inv(gram)
    wanted = weight - weight[0, 0] / inverse[0, 0] * inverse[0]
    assert torch.allclose(found, wanted, rtol=0, atol=1e-7)
    assert not torch.allclose(found[0, 1:], weight[0, 1:], rtol=0, atol=1e-3)
    best = torch.linalg.lstsq(x[1:].T, (weight @ x).T).solution[:, 0]
    assert torch.allclose(found[0, 1:], best, atol=1e-6)


def test_sparsegpt_leaves_less_error_than_its_mask_alone_and_keeps_the_count():
    x, gram = moments(40)
    weight = torch.randn(12, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for block, count in ((7, 120), (128, 120), (128, 240)):
        found, kept = make("sparsegpt", {"block": block}).pruned(weight, gram, count)
        assert int(kept.sum()) == count
        assert not found[~kept].any()
        repaired, masked = ((w - weight) @ x for w in (found, weight * kept))
        assert float(repaired.square().sum()) < 0.95 * float(masked.square().sum())
    same, kept = make("sparsegpt", {}).pruned(weight, gram, weight.numel())
    assert kept.all()
    assert torch.equal(same, weight)


def test_sparsegpt_keeps_no_weight_of_a_dead_input_before_one_of_a_live_one():
    _, gram = moments(20)
    whole = torch.zeros(40, 40, dtype=torch.float64)
    whole[:20, :20] = 1e-3 * gram
    weight = torch.randn(8, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for count, dead in ((80, 0), (200, 40)):
        kept = make("sparsegpt", {}).pruned(weight, whole, count)[1]
        assert int(kept[:, 20:].sum()) == dead


def test_sparsegpt_stands_inputs_that_are_always_zero():
    _, gram = moments(8)
    gram[3], gram[:, 3] = 0, 0
    weight = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert make("sparsegpt", {}).pruned(weight, gram, 10)[0].isfinite().all()
    assert make("sparsegpt", {}).pruned(weight, 0 * gram, 10)[0].isfinite().all()
    assert shared_out(10, 4) == [2, 3, 2, 3]


def test_obd_s_curvature_is_the_fisher_diagonal_of_a_linear_net(digits):
    """For softmax regression h = mean of p (1 - p) x^2, which draws of labels approach."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bench = Bench(digits, "lenet300", "obd", samples=600)
    trainer = bench.trainer()
    found = bench.method.curvature(net, trainer)["1.weight"]
    inputs = torch.cat([x for x, _ in trainer.samples(600)])
    p = net(inputs).softmax(1).detach()
    wanted = (p * (1 - p)).T @ inputs.flatten(1).square() / 600
    assert float(found.sum() / wanted.sum()) == pytest.approx(1, abs=0.03)
    assert float((found - wanted).norm() / wanted.norm()) < 0.25
    assert prunable(net)["1.weight"].grad is None
