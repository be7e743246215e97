"""SNIP, GraSP, SynFlow: their scores against definitions, and what they do to an untrained net."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from bench import data
from bench.method import load, make
from bench.surgery import prunable
from bench.surgery.layers import scoring_copy
from methods.synflow import flow
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def test_snip_scores_are_the_gradients_of_a_multiplicative_mask(digits):
    bench = Bench(digits, "lenet300", "snip")
    trainer, model = bench.trainer(), bench.initial()
    found = trainer.gradients(model, 50, batch_statistics=True)
    inputs, targets = next(trainer.samples(50))
    masks = {n: torch.ones_like(w, requires_grad=True) for n, w in prunable(model).items()}
    masked = {n: w.detach() * masks[n] for n, w in prunable(model).items()}
    loss = F.cross_entropy(functional_call(model, masked, (inputs,)), targets)
    for (name, weight), gradient in zip(
        prunable(model).items(), torch.autograd.grad(loss, list(masks.values())), strict=True
    ):
        assert torch.allclose(weight.detach() * found[name], gradient, atol=1e-7), name


def test_scores_of_untrained_nets_see_the_statistics_of_the_batch_and_leave_no_trace(digits):
    bench = Bench(digits, "resnet8", "snip")
    trainer, model = bench.trainer(), bench.initial()
    model.train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    running = trainer.gradients(model, 64)
    batch = trainer.gradients(model, 64, batch_statistics=True)
    inputs, targets = next(trainer.samples(64))
    direct = bench.initial().train()
    F.cross_entropy(direct(inputs), targets).backward()
    for name, weight in prunable(direct).items():
        assert torch.allclose(batch[name], weight.grad, atol=1e-6), name
    assert any(not torch.allclose(running[n], batch[n], rtol=0.1) for n in batch)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_scoring_copies_draw_nothing():
    model = nn.Sequential(nn.LSTM(4, 4, 2, dropout=0.5)).train()
    copied, stream = scoring_copy(model, True), torch.get_rng_state()
    copied(torch.ones(3, 1, 4))
    assert torch.equal(torch.get_rng_state(), stream)
    assert model[0].dropout == 0.5


def test_grasp_scores_are_those_of_the_hessian(digits):
    """Against the Hessian of a net small enough to have one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 10))
    bench = Bench(digits, "lenet300", "grasp", samples=40, temperature=2.0)
    trainer = bench.trainer()
    with trainer.spend("score"):
        found = bench.method.scores(net, trainer)
    inputs, targets = next(trainer.samples(40))
    names = list(prunable(net))
    values = tuple(prunable(net)[n].detach() for n in names)

    def loss(*weights):
        outputs = functional_call(net, dict(zip(names, weights, strict=True)), (inputs,))
        return F.cross_entropy(outputs / 2.0, targets)

    gradient = torch.cat([g.flatten() for g in torch.func.grad(loss, (0, 1))(*values)])
    blocks = torch.autograd.functional.hessian(loss, values)
    sizes = [v.numel() for v in values]
    hessian = torch.cat(
        [
            torch.cat([b.reshape(r, c) for b, c in zip(row, sizes, strict=True)], 1)
            for row, r in zip(blocks, sizes, strict=True)
        ]
    )
    flat = torch.cat([v.flatten() for v in values])
    wanted = (flat * (hessian @ gradient)).split(sizes)
    for name, value in zip(names, wanted, strict=True):
        assert torch.allclose(found[name].flatten(), value, atol=1e-3 * float(value.abs().max()))


def test_grasp_keeps_what_the_gradient_s_norm_needs(digits):
    """Removing kept weights would lower the norm of the gradient more than what was removed did."""
    bench = Bench(digits, "lenet300", "grasp")
    trainer, model = bench.trainer(), bench.initial()
    scores = bench.method.scores(model, trainer)
    inputs, targets = next(trainer.samples(bench.method.samples))

    def norm(step: float, high: bool) -> float:
        """Squared norm when the tenth of highest (or lowest) scores is scaled by 1 - step."""
        net = bench.initial()
        flat = torch.cat([s.flatten() for s in scores.values()])
        bound = flat.quantile(0.9 if high else 0.1)
        with torch.no_grad():
            for name, weight in prunable(net).items():
                chosen = scores[name] >= bound if high else scores[name] <= bound
                weight.mul_(torch.where(chosen, 1 - step, 1.0))
        loss = F.cross_entropy(net(inputs) / 200, targets)
        return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, net.parameters()))

    dense = norm(0, True)
    assert norm(0.01, True) < dense
    assert norm(0.01, True) < norm(0.01, False)


def test_synflow_is_conserved_from_layer_to_layer(digits):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(108, 7, bias=False),
        nn.ReLU(), nn.Linear(7, 10, bias=False),
    )  # fmt: skip
    positive = make("synflow", {}).positive(net)
    scores = flow(positive, digits.shape)
    out = float(positive(torch.ones(1, *digits.shape, dtype=torch.float64)).sum())
    assert all(float(s.sum()) == pytest.approx(out, rel=1e-12) for s in scores.values())
    hidden = scores["3.weight"].sum(1), scores["5.weight"].sum(0)
    assert torch.allclose(*hidden, rtol=1e-12)


def before_training(digits, arch, method, **params):
    """(masks that training holds, other arguments of `fit`, the bench) with training left out."""
    bench = Bench(digits, arch, method, **params)
    model, trainer = bench.start(), bench.trainer()
    calls = []
    with mock.patch.object(trainer, "fit", lambda *a, masks, **k: calls.append((masks, k))):
        next(bench.method.compress(model, trainer))
    (call,) = calls
    return (*call, bench)


def test_synflow_reads_no_data(digits):
    closed = AssertionError("data")
    with mock.patch.object(type(digits.train), "batches", side_effect=closed):
        assert before_training(digits, "lenet300", "synflow")[0]
        with pytest.raises(AssertionError, match="data"):
            before_training(digits, "lenet300", "snip")


def test_synflow_leaves_paths_through_the_net_where_one_round_leaves_none(digits):
    """At 0.3 % a single round cuts the net in two; a hundred do not."""
    flows = []
    for rounds in (1, 100):
        masks, _, bench = before_training(
            digits, "lenet300", "synflow", density=0.003, rounds=rounds
        )
        assert masks.kept() == round(0.003 * sum(m.numel() for m in masks.values()))
        model = bench.initial()
        masks.apply_(model)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data.zero_()
        flows.append(
            sum(float(f.sum()) for f in flow(bench.method.positive(model), digits.shape).values())
        )
    assert flows[1] > 0
    assert flows[1] > 2 * flows[0]


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow", "static_sparse"])
def test_masks_are_made_before_training_and_never_move(digits, method):
    masks, others, bench = before_training(digits, "resnet8", method, density=0.2)
    assert not set(others) & {"on_step", "through", "penalty"}
    assert load(method).start == "init"
    total = sum(w.numel() for w in prunable(bench.initial()).values())
    assert masks.kept() == round(0.2 * total)


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_what_scores_highest_over_all_layers_is_kept(digits, method):
    masks, _, bench = before_training(digits, "resnet8", method, density=0.2)
    model, trainer = bench.initial(), bench.trainer()
    if method == "snip":
        found = trainer.gradients(model, batch_statistics=True)
        scores = {n: (w.detach() * found[n]).abs() for n, w in prunable(model).items()}
    else:
        scores = bench.method.scores(model, trainer)
    kept = torch.cat([scores[n][m] for n, m in masks.items()])
    lost = torch.cat([scores[n][~m] for n, m in masks.items()])
    assert float(kept.min()) >= float(lost.max())
