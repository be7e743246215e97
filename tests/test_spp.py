"""SPP: the increment, the probabilities, the draws, both patterns, recovery, behaviour on data."""

from __future__ import annotations

import copy
import math
from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from bench import data, measure
from bench.figures import draw as draw_figure
from bench.method import MethodError, make
from bench.probabilities import Groups, draw
from bench.spec import Recipe
from bench.surgery import channels, nonzero, prunable
from methods.spp import increments
from tests.contract_bench import DENSITY, FINETUNE, Bench

SPP = make("spp", {})
RAISE = partial(increments, A=0.05, u=0.25)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


@pytest.mark.parametrize("left", [6, 60, 601])
def test_the_increment_has_the_values_of_the_paper_s_curve(left):
    """At u = 1/4: A at rank 0, A/4 at 2K/3, 0 at K, and point-symmetric about 2K/3."""
    at = torch.tensor([0, 0.25, 0.5, 0.75, 1, 4 / 3, 1.5, 2]) * left
    wanted = [1, 0.595, 0.354, 0.203, 0, -0.5, -0.914, -3.5]
    found = increments(at, left, 0.05, 0.25) / 0.05
    assert found.tolist() == pytest.approx(wanted, abs=6e-4)
    assert float(increments(torch.tensor(left), left, 0.05, 0.25)) == pytest.approx(0, abs=1e-15)
    ranks = torch.linspace(0, 4 * left / 3, 50, dtype=torch.float64)
    mirrored = increments(4 * left / 3 - ranks, left, 1.0, 0.25)
    assert torch.allclose(increments(ranks, left, 1.0, 0.25) + mirrored, torch.tensor(0.5).double())
    assert (increments(ranks, left, 1.0, 0.25).diff() < 0).all()
    assert increments(torch.tensor(10**6), left, 0.05, 0.25).isfinite()


@pytest.mark.parametrize("u", [0.1, 0.25, 0.7])
def test_the_increment_is_ua_at_its_centre_and_0_at_k_for_every_u(u):
    centre = -math.log(u) * 300 / math.log(2 / u)
    at = torch.tensor([0.0, centre, 300.0, 2 * centre], dtype=torch.float64)
    wanted = [2.0, 2 * u, 0, -2 * (1 - 2 * u)]
    assert increments(at, 300, 2.0, u).tolist() == pytest.approx(wanted, abs=1e-9)


def followed(layer: Groups, norms: torch.Tensor, most: int = 400) -> int:
    """Update until the target is met; the number of the first update that pruned."""
    first = 0
    while layer.left and layer.updates < most:
        layer.update(norms, RAISE)
        assert ((layer.p >= 0) & (layer.p <= 1)).all()
        assert torch.equal(layer.p == 1, layer.pruned)
        first = first or layer.updates * int(layer.pruned.any())
    return first


@pytest.mark.parametrize(("size", "R", "least", "most"), [(64, 0.5, 90, 140), (576, 0.5, 150, 270)])
def test_static_scores_meet_the_target_in_the_known_number_of_updates(size, R, least, most):
    norms = torch.rand(size, generator=torch.Generator().manual_seed(0))
    layer = Groups(size, math.ceil(R * size))
    assert followed(layer, norms) == 20  # 1 / A
    assert least <= layer.updates <= most
    assert layer.pruned.sum() == layer.target
    assert ((layer.p > 0) & (layer.p < 1)).sum() == 1
    assert norms[layer.pruned].max() < norms[~layer.pruned].min()


def test_with_k_frozen_it_is_many_times_slower():
    """Why K is what is *still* to go: with K = R N_c the last groups hardly gain."""
    norms = torch.rand(64, generator=torch.Generator().manual_seed(0))
    layer = Groups(64, 32)
    ranks = torch.argsort(torch.argsort(norms))
    for _ in range(400):
        layer.p = (layer.p + increments(ranks, 32, 0.05, 0.25)).clamp(0, 1)
    assert (layer.p > 1 - 1e-9).sum() < 32


def test_a_group_that_becomes_important_again_survives():
    norms = torch.arange(64.0)
    layer = Groups(64, 32)
    for _ in range(10):
        layer.update(norms, RAISE)
    assert 0.2 < float(layer.p[5]) < 1
    norms = norms.clone()
    norms[5] = 100.0
    followed(layer, norms)
    assert not layer.pruned[5]
    assert layer.p[5] == 0
    assert layer.pruned.sum() == 32
    assert layer.summary()["recovered"] >= 1
    assert layer.summary()["peak"] > 0.2


def test_groups_that_tie_never_overshoot_and_the_rest_goes_by_p_then_norm():
    layer = Groups(10, 3)
    layer.p[:] = 0.99  # all would reach 1 in one update
    layer.update(torch.ones(10), partial(increments, A=1.0, u=0.25))
    assert layer.pruned.sum() <= 3
    layer = Groups(6, 3)
    layer.p = torch.tensor([0.1, 0.8, 0.5, 0.5, 0.9, 0.0], dtype=torch.float64)
    layer.force(torch.tensor([0.0, 5, 4, 3, 6, 1]))
    assert layer.pruned.nonzero().flatten().tolist() == [1, 3, 4]
    assert layer.forced == 3


def test_the_running_mean_of_ranks_resists_noise():
    draws = torch.Generator().manual_seed(0)
    true = torch.arange(64.0) + 30
    taken = {}
    for ranking, history in (("l1", 0.0), ("mean_rank", None)):
        layer = Groups(64, 32, history)
        while layer.left and layer.updates < 600:
            layer.update(true * (1 + 0.1 * torch.randn(64, generator=draws)), RAISE)
        taken[ranking] = layer.updates
    assert taken["mean_rank"] < 200 < taken["l1"]


@pytest.mark.parametrize("rows", [1, 3])
def test_masks_are_drawn_with_the_survival_probability(rows):
    layer, done = Groups(11, 5), Groups(4, 2)
    layer.p = torch.linspace(0, 1, 11, dtype=torch.float64)
    done.force(torch.arange(4.0))
    layers, each = {"done": done, "layer": layer}, {"done": rows, "layer": rows}
    stream, n = torch.Generator().manual_seed(0), 4000
    drawn = [draw(layers, stream, each) for _ in range(n)]
    seen = torch.stack([d["layer"].view(rows, 11) for d in drawn]).double().mean(0)
    bound = 4.5 * (layer.p * (1 - layer.p) / n).sqrt()
    assert ((seen - (1 - layer.p)).abs() <= bound).all()
    # the target is met: the survivors are always seen, and nothing is drawn for them
    assert all(d["done"].tolist() == [False, False, True, True] for d in drawn)
    layer.force(torch.zeros(11))
    state = stream.get_state()
    assert torch.equal(draw(layers, stream, each)["layer"], ~layer.pruned)
    assert torch.equal(stream.get_state(), state)


def test_layers_drawn_together_see_what_they_would_see_drawn_one_by_one():
    layers = {n: Groups(k, 1) for n, k in {"a": 9, "b": 144, "c": 17}.items()}
    for layer in layers.values():
        layer.p = torch.linspace(0, 0.9, len(layer.p), dtype=torch.float64)
    rows = {"a": 1, "b": 16, "c": 3}
    together, one = (torch.Generator().manual_seed(5) for _ in range(2))
    for _ in range(3):
        wanted = {n: draw({n: layer}, one, rows)[n] for n, layer in layers.items()}
        found = draw(layers, together, rows)
        assert all(torch.equal(found[n], wanted[n]) for n in layers)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"draws": "element", "rescale": True, "ranking": "mean_rank"},
        {"layers": "conv", "history": 0.9},
        {"share": 0.1},
        {"pattern": "channel"},
        {"pattern": "channel", "layers": "conv", "targets": {"conv1.weight": 0.25}},
    ],
)
def test_every_layer_meets_its_target_exactly_and_history_says_how(digits, params):
    bench = Bench(digits, "resnet8", "spp", **params)
    (point,), trainer = bench.points()
    assert trainer.epochs_spent == pytest.approx(FINETUNE.epochs, abs=0.06)
    told = {line["layer"]: line for line in bench.lines if line["event"] == "spp_layer"}
    assert all(line["pruned"] == line["target"] > 0 for line in told.values())
    assert any(line["forced"] for line in told.values()) == (params.get("share") == 0.1)
    states = [line for line in bench.lines if line["event"] == "spp"]
    assert len(states) <= 100
    assert all(sum(s["histogram"]) == told[s["layer"]]["groups"] for s in states)
    if params.get("pattern") == "channel":
        left = {g.name: g.size for g in channels.groups(point, digits.shape)}
        assert left == {n: line["groups"] - line["pruned"] for n, line in told.items()}
        assert ("targets" not in params) or left["conv1.weight"] == 12
        return
    for name, weight in prunable(point).items():
        gone = int((weight.flatten(1) == 0).all(0).sum())
        assert gone == (told[name]["pruned"] if name in told else 0), name
    assert ("fc.weight" in told) == ("layers" not in params)


def test_clean_up_changes_no_logit_and_says_what_it_took(digits):
    bench = Bench(digits, "lenet300", "spp", clean_up=True)
    zeroed, real = [], channels.shrink

    def shrink(model, shape, keep):
        zeroed.append((copy.deepcopy(model), copy.deepcopy(smaller := real(model, shape, keep))))
        return smaller

    with mock.patch.object(channels, "shrink", shrink):
        (point,), _ = bench.points()
    before, after = (net.eval() for net in zeroed[-1])
    images = digits.normalise(next(digits.test.batches(16))[0])
    assert torch.allclose(before(images), after(images), atol=1e-5)
    told = next(line for line in bench.lines if line["event"] == "spp_clean_up")
    total = sum(w.numel() for w in prunable(before).values())
    assert told["weights_before"] == pytest.approx(DENSITY * total, rel=0.01)
    assert told["weights_after"] == nonzero(point).kept() < 0.5 * told["weights_before"]


def test_the_equal_tier_spaces_updates_or_raises_a_and_the_paper_tier_does_neither():
    def trainer(tier: str, steps: int) -> SimpleNamespace:
        return SimpleNamespace(
            spec=SimpleNamespace(tier=tier), steps=lambda e: round(e * steps), epochs=lambda: 1.0
        )

    assert SPP.pace(trainer("paper", 100), 4)[:3] == (1000 * 180 / 100, 180, 0.05)
    assert SPP.pace(trainer("equal", 2000), 4)[:3] == (0.5, 3, 0.05)
    epochs, t, A, _ = SPP.pace(trainer("equal", 132), 4)
    assert (epochs, t, A) == (0.5, 1, pytest.approx(0.25))
    assert SPP.pace(trainer("equal", 4), 4)[2] == 1


def test_the_paper_tier_prunes_until_it_is_done_and_then_retrains_in_full(digits):
    bench = Bench(digits, "lenet300", "spp", A=0.5, t=3, most=50)
    spec = bench.spec.model_copy(update={"tier": "paper"})
    trainer = bench.trainer(spec, math.inf)
    (point,) = bench.method.compress(bench.initial(), trainer)
    told = [line for line in bench.lines if line["event"] == "spp_layer"]
    assert all(line["forced"] == 0 and line["pruned"] == line["target"] for line in told)
    took = (max(line["updates"] for line in told) - 1) * 3  # the first update is before any step
    assert trainer.step == took + trainer.steps(FINETUNE.epochs)
    assert nonzero(point).kept() < 0.31 * sum(w.numel() for w in prunable(point).values())


def test_density_one_prunes_nothing(digits):
    (point,), trainer = Bench(digits, "lenet300", "spp", density=1.0).points()
    assert nonzero(point).kept() > 0.99 * sum(w.numel() for w in prunable(point).values())
    assert trainer.epochs_spent == pytest.approx(FINETUNE.epochs, abs=0.06)


def test_better_than_random_columns_with_its_own_layer_counts(digits):
    recipes = {"train": Recipe(epochs=4, lr=0.1, batch_size=64)}
    recipes["finetune"] = Recipe(epochs=3, lr=0.05, batch_size=64)
    gained = []
    for seed in (0, 1):
        bench = Bench(digits, "resnet8", "spp", seed, density=0.2)
        dense = bench.initial()
        start = bench.spec.model_copy(update={**recipes, "finetune": None})
        bench.trainer(start, 4).fit(dense)
        spec, right = bench.spec.model_copy(update=recipes), {}
        counts: dict[str, int] = {}
        for name in ("spp", "random"):
            own = {} if name == "spp" else {"pattern": "column", "allocation": counts}
            method = make(name, {"density": 0.2, **own})
            (point,) = method.compress(copy.deepcopy(dense), bench.trainer(spec, 3))
            counts = {n: int(w.count_nonzero()) for n, w in prunable(point).items()}
            right[name] = measure.accuracy(point.eval(), digits.test, digits.normalise).top1
        gained.append(right["spp"] - right["random"])
    assert sum(gained) / 2 > -0.005, gained


@pytest.mark.parametrize("wrong", [{"draws": "element"}, {"rescale": True}, {"clean_up": True}])
def test_what_only_columns_have_is_refused_for_channels(wrong):
    with pytest.raises(MethodError, match="are for pattern: column"):
        make("spp", {"pattern": "channel", **wrong})


def test_history_is_refused_for_the_mean_of_ranks_by_name():
    with pytest.raises(MethodError, match="history is for ranking: l1"):
        make("spp", {"ranking": "mean_rank", "history": 0.9})


def test_clean_up_refuses_a_net_that_cannot_be_traced_before_it_is_trained(digits):
    trainer, method = mock.Mock(shape=digits.shape), make("spp", {"clean_up": True})
    refused = mock.patch.object(channels, "groups", side_effect=channels.SurgeryError("no trace"))
    with refused, pytest.raises(channels.SurgeryError, match="no trace"):
        next(method.compress(torch.nn.Linear(4, 2), trainer))
    trainer.fit.assert_not_called()


def test_the_figure_draws_the_states_of_history(digits, tmp_path, monkeypatch):
    import json

    import pandas as pd

    from bench import tidy
    from bench.figures import spp, style

    bench = Bench(digits, "resnet8", "spp")
    bench.points()
    (tmp_path / "runs" / "a").mkdir(parents=True)
    lines = "\n".join(json.dumps(line) for line in bench.lines)
    (tmp_path / "runs" / "a" / "history.jsonl").write_text(lines)
    tidy.write(tidy.history(tmp_path / "runs", ["a"]), tmp_path, "history")
    columns = {"run": "a", "dataset": "digits", "arch": "resnet8", "tier": "equal", "seed": 0}
    runs = pd.DataFrame([{**columns, "variant": "spp", "target_density": DENSITY}])
    tidy.write(runs, tmp_path, "runs")
    for file in tmp_path.glob("*.parquet"):
        file.unlink()  # from CSV alone
    monkeypatch.setattr(style, "message", lambda *_: pytest.fail("nothing to draw"))
    assert [file.name for file in draw_figure("spp", tmp_path, tmp_path)] == ["spp.pdf", "spp.png"]
    states = spp.states(tidy.read(tmp_path, "runs"), tidy.read(tmp_path, "history"))
    assert len(spp.chosen(states)) == spp.LAYERS
