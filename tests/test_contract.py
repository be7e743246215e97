"""The contract of methods/README.md, asserted for every file in methods/.

On real data and two kinds of net.
"""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

import methods
from bench import data, rng, tidy
from bench.commands import new_method
from bench.measure.integers import value_bits
from bench.method import MethodError, load, make, names
from bench.refusals import refuse_tricks
from bench.run import FAILURES
from bench.surgery import channels, nonzero, prunable
from bench.surgery.store import digest, save
from bench.surgery.store import load as load_model
from bench.trainer import BudgetExceeded
from tests.contract_bench import DENSITY, Bench

NETS = ("resnet8", "lstm")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


@pytest.fixture(scope="module")
def done(digits):
    """(points, trainer, bench) of every (method, net), done once."""
    cache = {}

    def get(method: str, arch: str, seed: int = 0):
        if (method, arch, seed) not in cache:
            bench = Bench(digits, arch, method, seed)
            try:
                cache[method, arch, seed] = (*bench.points(), bench)
            except FAILURES as reason:
                cache[method, arch, seed] = f"{method} refuses {arch}: {reason}"
        if isinstance(cache[method, arch, seed], str):
            pytest.skip(cache[method, arch, seed])
        return cache[method, arch, seed]

    return get


each = pytest.mark.parametrize(("method", "arch"), [(m, a) for m in names() for a in NETS])


@each
def test_yields_plain_modules_that_keep_the_classifier_and_take_any_batch(
    done, digits, method, arch
):
    points, _, _ = done(method, arch)
    assert points
    for model in points:
        refuse_tricks(model, method)
        model.eval()
        for size in (1, 5):
            images = next(digits.test.batches(size))[0]
            assert model(digits.normalise(images)).shape == (size, digits.classes)


@each
def test_keeps_the_budget_and_the_ledger_adds_up(done, digits, method, arch):
    _, trainer, bench = done(method, arch)
    assert trainer.epochs_spent <= bench.budget + 1e-6
    # the equal tier: all of the budget, no more
    assert trainer.epochs_spent == pytest.approx(bench.budget, abs=0.06)
    per_epoch = len(digits.train) // 64
    for spent in trainer.ledger.spent.values():
        if spent.phase in ("pretrain", "finetune"):
            assert spent.samples == round(spent.epochs * per_epoch) * 64
    logged = [line["epoch"] for line in bench.lines if line["event"] == "epoch"]
    assert logged == sorted(logged)
    assert logged[-1] == pytest.approx(
        sum(s.epochs for s in trainer.ledger.spent.values()), abs=1e-3
    )


@each
def test_same_seed_gives_the_same_bits_and_another_seed_others(done, digits, method, arch):
    points, _, _ = done(method, arch)
    again, _ = Bench(digits, arch, method).points()
    assert [digest(p) for p in again] == [digest(p) for p in points]
    other, _ = Bench(digits, arch, method, seed=1).points()
    assert digest(other[-1]) != digest(points[-1])


@each
def test_reaches_the_density_it_was_asked_for(done, method, arch):
    points, _, bench = done(method, arch)
    if "density" not in type(bench.method).model_fields or not bench.method.steered:
        pytest.skip(f"{method} cannot be steered to a density")
    dense = prunable(bench.initial())
    wanted = DENSITY * sum(w.numel() for w in dense.values())
    channels = getattr(bench.method, "pattern", "") == "channel"
    kept = sum(  # where levels are few, weights of the channels that stay may be rounded to zero
        w.numel() if channels and value_bits(w)[0] < 32 else int(w.count_nonzero())
        for w in prunable(points[-1]).values()
    )
    # a pattern keeps whole groups; the largest are a weight per output of a layer, or per input too
    whole = getattr(bench.method, "pattern", "unstructured") != "unstructured"
    group = max(w.shape[0] + w[0].numel() for w in dense.values()) if whole else 0
    # training may leave a kept weight at exact zero, never revive a pruned one
    assert kept <= round(wanted) + group
    assert kept == pytest.approx(wanted, rel=0.01, abs=group)


@each
def test_every_line_of_its_history_is_explained(done, method, arch):
    _, _, bench = done(method, arch)
    readme = (Path(__file__).parents[1] / "results" / "README.md").read_text()
    rows = [row for row in readme.splitlines() if row.startswith("| `") and f" {method}" in row]
    for line in bench.lines:
        if line["event"] == "epoch":
            continue
        row = next((row for row in rows if f"`{line['event']}`" in row.split("|")[1]), "")
        assert row, f"results/README.md has no row of the event {line['event']} by {method}"
        unknown = [c for c in line if c not in tidy.HISTORY and f"`{c}`" not in row]
        assert not unknown, f"{method} logs {unknown} with {line['event']}, which no row explains"


@each
def test_saving_and_loading_is_exact(done, tmp_path, digits, method, arch):
    points, _, _ = done(method, arch)
    save(points[-1], tmp_path, arch, digits.shape, digits.classes)
    loaded = load_model(tmp_path)
    assert digest(loaded) == digest(points[-1])
    images = digits.normalise(next(digits.test.batches(7))[0])
    assert torch.equal(loaded.eval()(images), points[-1].eval()(images))


@pytest.mark.parametrize("method", names())
def test_a_method_may_refuse_a_net_for_a_reason_but_not_a_residual_one(digits, method):
    assert Bench(digits, "resnet8", method).points()[0]


@pytest.mark.parametrize("method", names())
def test_draws_of_a_method_do_not_change_the_order_of_data(digits, method):
    """Every method trains on the same batches.

    Its first fine-tuning batch is the harness's, whatever it drew.
    """
    seen = []
    bench = Bench(digits, "resnet8", method)
    start, trainer = bench.start(), bench.trainer()
    real = type(digits.train).batches

    def batches(split, size, order=None, drop_last=False):
        seen.append(None if order is None else order[:5].tolist())
        return real(split, size, order, drop_last)

    with mock.patch.object(type(digits.train), "batches", batches):
        next(bench.method.compress(start, trainer))
    expected = rng.generator("data", "digits", 0, 0 if bench.method.start == "init" else 2)
    first = torch.randperm(len(digits.train), generator=expected)[:5].tolist()
    assert first in seen


@pytest.mark.parametrize("method", names())
def test_nonsense_parameters_are_refused_by_name(method):
    fields = load(method).model_fields
    with pytest.raises(MethodError, match="no parameter 'densitty'"):
        make(method, {"densitty": 0.1})
    for name, field in fields.items():
        assert field.description, f"{method}.{name} has no description"
    if "density" in fields:
        for wrong in (0, -0.1, 1.5, "much"):
            with pytest.raises(MethodError, match="density"):
                make(method, {"density": wrong})


@pytest.mark.parametrize("method", names())
def test_says_what_it_is(method):
    kind = load(method)
    assert kind.family
    assert kind.citation
    text = sys.modules[kind.__module__].__doc__
    assert "Deviations from the paper" in text
    source = Path(sys.modules[kind.__module__].__file__).read_text()
    assert "from methods" not in source
    assert "import methods" not in source
    assert "print(" not in source
    assert "open(" not in source


def test_training_past_the_budget_is_refused(digits):
    bench = Bench(digits, "resnet8", "magnitude")
    trainer = bench.trainer()
    model = bench.initial()
    trainer.fit(model, 1)
    with pytest.raises(BudgetExceeded, match=r"its budget is 1\.5"):
        trainer.fit(model, 1)


def test_results_are_the_same_in_another_process(done):
    """Bits depend on no hash salt, no import order and no global state."""
    points, _, _ = done("random", "lstm")
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.contract_bench import Bench\n"
        "from bench import data\n"
        "from bench.surgery.store import digest\n"
        "points, _ = Bench(data.load('digits', data.root(None)), 'lstm', 'random').points()\n"
        "print(digest(points[-1]))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == digest(points[-1])


@each
def test_pruned_weights_are_exact_zeros_where_the_masks_say(done, method, arch):
    points, _, bench = done(method, arch)
    assert len(points) == len(bench.masks)
    for model, masks in zip(points, bench.masks, strict=True):
        for name, kept in nonzero(model).items():
            assert not (kept & ~masks.get(name, torch.ones_like(kept))).any(), name
    if method != "dense" and not bench.masks[-1]:  # its layers are smaller instead
        assert _weights(points[-1]) < _weights(bench.initial())
    elif method != "dense":  # some weight is gone, and no zero was made that is not held
        masks, kept = bench.masks[-1], nonzero(points[-1])
        assert 0 < masks.kept() < sum(m.numel() for m in masks.values())
        assert kept.kept() == pytest.approx(masks.density(points[-1]) * _weights(points[-1]), 0.01)


def _weights(model: nn.Module) -> int:
    return sum(w.numel() for w in prunable(model).values())


@pytest.mark.parametrize("method", [m for m in names() if m != "dense"])
def test_leaves_the_dense_start_and_the_next_method_untouched(done, digits, tmp_path, method):
    """A method after it finds the same files, weights and random streams."""
    magnitude = Bench(digits, "resnet8", "magnitude")
    save(magnitude.start(), tmp_path, "resnet8", digits.shape, digits.classes)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    shared = load_model(tmp_path)
    held, stream = digest(shared), torch.get_rng_state()
    done(method, "resnet8")
    Bench(digits, "resnet8", method).points(load_model(tmp_path))
    assert torch.equal(torch.get_rng_state(), stream), "it drew from torch's global generator"
    assert digest(shared) == held
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    points, _ = magnitude.points(load_model(tmp_path))
    assert digest(points[0]) == digest(done("magnitude", "resnet8")[0][0])


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("method", [m for m in names() if "channel" in load(m).patterns])
def test_masked_and_shrunk_channels_give_the_same_logits(digits, method, arch):
    calls, real = [], channels.shrink

    def shrink(model, shape, keep):
        before = copy.deepcopy(model)
        calls.append((before, keep, copy.deepcopy(smaller := real(model, shape, keep))))
        return smaller

    bench = Bench(digits, arch, method, pattern="channel")
    with mock.patch.object(channels, "shrink", shrink):
        try:
            points, _ = bench.points()
        except FAILURES as reason:
            pytest.skip(f"{method} refuses {arch}: {reason}")
    masked, keep, smaller = calls[-1]
    shapes = {n: p.shape for n, p in points[-1].named_parameters()}
    assert shapes == {n: p.shape for n, p in smaller.named_parameters()}
    if bench.method.steered:
        assert _weights(points[-1]) == pytest.approx(DENSITY * _weights(masked), rel=0.25)
    images = digits.normalise(next(digits.test.batches(64))[0])
    whole = masked.eval()(images)
    before = digest(masked)
    channels.mask(masked, channels.groups(masked, digits.shape), keep)
    logits = masked(images).detach()
    assert torch.allclose(smaller.eval()(images), logits, atol=1e-5 * float(logits.abs().max()))
    assert not all(kept.all() for kept in keep.values())
    # unless the method has zeroed them itself, the channels that go did something
    assert digest(masked) == before or not torch.allclose(whole, logits, atol=1e-2)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """The name of a method that `new-method` wrote, in a folder of its own."""
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])
    names.cache_clear()
    new_method("quite_new")
    importlib.invalidate_caches()
    names.cache_clear()
    yield "quite_new"
    monkeypatch.undo()
    sys.modules.pop("methods.quite_new", None)
    names.cache_clear()
    load.cache_clear()


def test_the_file_that_new_method_writes_keeps_the_contract(fresh, digits, done, tmp_path):
    assert load(fresh).__name__ == "QuiteNew"
    for check in (
        test_yields_plain_modules_that_keep_the_classifier_and_take_any_batch,
        test_keeps_the_budget_and_the_ledger_adds_up,
        test_same_seed_gives_the_same_bits_and_another_seed_others,
    ):
        check(done, digits, fresh, "resnet8")
    test_reaches_the_density_it_was_asked_for(done, fresh, "resnet8")
    test_pruned_weights_are_exact_zeros_where_the_masks_say(done, fresh, "resnet8")
    test_saving_and_loading_is_exact(done, tmp_path, digits, fresh, "resnet8")
    for check in (test_nonsense_parameters_are_refused_by_name, test_says_what_it_is):
        check(fresh)
    test_draws_of_a_method_do_not_change_the_order_of_data(digits, fresh)
    with pytest.raises(ValueError, match="exists"):
        new_method(fresh)
