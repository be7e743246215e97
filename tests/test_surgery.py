"""Patterns, allocations and masks: exact counts and shapes."""

from __future__ import annotations

import importlib
import math
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import nn

from bench import surgery
from bench.surgery import magnitudes, nonzero, prunable, prune
from bench.surgery.allocation import allocate, one_threshold, round_counts
from bench.surgery.patterns import Pattern, PatternError, expand, keep_n_of_m, keep_top, unit_scores

RULES = ("global", "layerwise", "layer_normalised", "erk", "uniform_plus", "lamp")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.033])
def test_every_allocation_meets_the_density_to_the_weight(rule, density):
    model = net()
    total = sum(w.numel() for w in prunable(model).values())
    _, masks = prune(model, magnitudes(model), density, allocation=rule, shape=(3, 8, 8))
    assert masks.kept() == round(density * total)
    assert sum(int(w.count_nonzero()) for w in prunable(model).values()) == round(density * total)
    if rule not in (
        "global",
        "layer_normalised",
    ):  # one threshold may empty a layer of small weights
        assert not masks.collapsed()


def test_global_magnitude_keeps_the_largest_weights_of_all():
    model = net()
    before = torch.cat([w.flatten() for w in magnitudes(model).values()])
    prune(model, magnitudes(model), 0.2, shape=(3, 8, 8))
    kept = torch.cat([w.flatten() for w in magnitudes(model).values()]) > 0
    assert before[kept].min() >= before[~kept].max()


def test_lamp_never_empties_a_layer_where_global_magnitude_does():
    scores = {"small": torch.full((50,), 1e-6), "large": torch.rand(1000) + 1}
    sizes, shapes = dict.fromkeys(scores, 1), {"small": (50, 1), "large": (1000, 1)}
    assert allocate(scores, sizes, shapes, 0.1, "global")["small"] == 0
    assert allocate(scores, sizes, shapes, 0.1, "lamp")["small"] >= 1


@pytest.mark.parametrize("pattern", ["block:4x4", "tile:4x2", "column", "kernel"])
@pytest.mark.parametrize("rule", ["global", "layerwise", "erk"])
def test_grouped_patterns_zero_whole_units_and_come_within_one_unit(pattern, rule):
    model = net()
    parsed = Pattern.parse(pattern)
    uneven = "dense" if pattern.startswith(("block", "tile")) else "refuse"
    _, masks = prune(
        model,
        magnitudes(model),
        0.3,
        pattern=pattern,
        allocation=rule,
        uneven=uneven,
        shape=(3, 8, 8),
    )
    total, largest = sum(w.numel() for w in prunable(model).values()), 0
    for mask in masks.values():
        units = unit_scores(mask.float(), parsed)
        assert set(units.tolist()) <= {0.0, 1.0}
        largest = max(largest, mask.numel() // units.numel())
    kept = sum(int(w.count_nonzero()) for w in prunable(model).values())
    assert abs(kept - 0.3 * total) <= largest


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_n_of_m_keeps_exactly_n_of_every_m_inputs(n, m):
    weight = torch.randn(6, 8, 2, 2)
    mask = keep_n_of_m(weight.abs(), n, m)
    groups = mask.flatten(1).view(6, -1, m)
    assert (groups.sum(2) == n).all()
    values = weight.abs().flatten(1).view(6, -1, m)
    dropped = torch.where(groups, -1, values).amax(2)
    kept = torch.where(groups, values, math.inf).amin(2)
    assert (kept >= dropped).all()


def test_remainder_of_n_of_m_stays_dense():
    mask = keep_n_of_m(torch.rand(5, 10), 1, 4)
    assert mask[:, 8:].all()
    assert (mask[:, :8].sum(1) == 2).all()


def test_k_of_n_keeps_the_same_number_for_every_output():
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    _, masks = prune(
        model, magnitudes(model), 0.25, pattern="k-of-n", allocation="layerwise", shape=(40,)
    )
    for mask in masks.values():
        assert len(set(mask.sum(1).tolist())) == 1


@pytest.mark.parametrize("rule", ["global", "layerwise", "erk"])
def test_k_of_n_shared_by_outputs_keeps_the_best_inputs_of_all_of_them(rule):
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3))
    before = {n: w.detach().clone() for n, w in prunable(model).items()}
    _, masks = prune(
        model, magnitudes(model), 0.25, pattern="k-of-n:4", allocation=rule, shape=(3, 8, 8)
    )
    total = sum(w.numel() for w in before.values())
    assert abs(masks.kept() - 0.25 * total) <= max(len(w) for w in before.values())
    for name, mask in masks.items():
        groups = mask.flatten(1).view(-1, 4, mask[0].numel())
        assert (groups == groups[:, :1]).all()
        kept = groups[:, 0].sum(1)
        assert len(set(kept.tolist())) == 1
        together = before[name].abs().flatten(1).view(groups.shape).sum(1)
        best = together.topk(int(kept[0]), 1).indices.sort(1).values
        assert torch.equal(best, groups[:, 0].nonzero()[:, 1].view(best.shape))


def test_a_layer_whose_outputs_cannot_share_is_refused_or_stays_dense():
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 16))
    how = {"pattern": "k-of-n:16", "allocation": "layerwise", "shape": (40,)}
    with pytest.raises(PatternError, match=r"'0.weight'.*its 30 outputs are no multiple of 16"):
        prune(model, magnitudes(model), 0.9, **how)
    _, masks = prune(model, magnitudes(model), 0.9, uneven="dense", **how)
    assert list(masks) == ["2.weight"]
    assert masks.density(model) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    "pattern", ["unstructured", "k-of-n:2", "column", "kernel", "block:2x3", "tile:2x3"]
)
def test_expanding_units_inverts_reducing_them(pattern):
    shape, parsed = (4, 6, 3, 3), Pattern.parse(pattern)
    units = unit_scores(torch.rand(shape), parsed)
    chosen = keep_top(units, units.numel() // 2)
    assert torch.equal(unit_scores(expand(chosen, shape, parsed).float(), parsed) > 0.5, chosen)


def test_a_tile_lies_at_one_tap_of_the_kernel():
    shape, parsed = (4, 6, 3, 3), Pattern.parse("tile:2x3")
    units = torch.zeros(2 * 9 * 2, dtype=torch.bool)
    units[18 + 2 * 5 + 1] = True  # second rows; sixth tap, which is (1, 2); second inputs
    mask = expand(units, shape, parsed)
    wanted = torch.zeros(shape, dtype=torch.bool)
    wanted[2:, 3:, 1, 2] = True
    assert torch.equal(mask, wanted)
    assert parsed.refusal((4, 4, 3, 3)) == "its matrix at a tap 4 x 4 is no multiple of 2 x 3"
    assert Pattern.parse("block:2x3").refusal((4, 4, 3, 3)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5:4", "1 <= N <= M"),
        ("block:0x4", "at least one"),
        ("diagonal", "no pattern"),
        ("2:1", "M >= 2"),
        ("k-of-n:1", "at least two outputs"),
    ],
)
def test_nonsense_patterns_are_refused(text, reason):
    with pytest.raises(PatternError, match=reason):
        Pattern.parse(text)


def test_a_pattern_that_a_layer_cannot_hold_names_the_layer():
    model = net()  # first layer: 27 inputs
    with pytest.raises(
        PatternError, match=r"'0.weight'.*27 inputs per output are no multiple of 4"
    ):
        prune(model, magnitudes(model), 0.5, pattern="2:4", shape=(3, 8, 8))
    with pytest.raises(PatternError, match=r"keeps density 0\.5, not 0\.1"):
        prune(model, magnitudes(model), 0.1, pattern="2:4", shape=(3, 8, 8))
    with pytest.raises(PatternError, match="at least 1 of 4"):
        prune(model, magnitudes(model), 0.1, pattern="*:4", uneven="dense", shape=(3, 8, 8))


def test_ties_are_broken_by_index_so_counts_stay_exact():
    equal = {"a": torch.ones(30), "b": torch.ones(70)}
    counts = one_threshold(equal, dict.fromkeys(equal, 1), 0.5)
    assert counts == {"a": 30, "b": 20}
    assert keep_top(torch.ones(10), 3).tolist() == [True] * 3 + [False] * 7


def test_rounded_counts_keep_the_total_and_one_unit_in_each_layer():
    wanted = {"a": 0.001, "b": 3.4, "c": 6.599}
    counts = round_counts(wanted, {"a": 5, "b": 10, "c": 10}, dict.fromkeys(wanted, 1))
    assert sum(counts.values()) == 10
    assert counts["a"] == 1


def test_masks_hold_zeros_through_training():
    model = net()
    model, masks = prune(model, magnitudes(model), 0.2, shape=(3, 8, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(3):
        loss = model(torch.randn(4, 3, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        masks.mask_gradients_(model)
        optimizer.step()
    for name, weight in prunable(model).items():
        assert (weight[~masks[name]] == 0).all()
    assert nonzero(model).kept() <= masks.kept()


def test_no_module_hides_what_the_package_exports():
    """A file of an exported function's name takes its place once somebody imports the file."""
    exported = {n for n in surgery.__all__ if not isinstance(getattr(surgery, n), ModuleType)}
    for module in pkgutil.iter_modules(surgery.__path__):
        importlib.import_module(f"bench.surgery.{module.name}")
    assert not [n for n in exported if isinstance(getattr(surgery, n), ModuleType)]
