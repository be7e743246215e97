"""Top-1 agreement: a path has to give real images the pruned net's classes."""

from __future__ import annotations

import copy

import pytest
import torch

from bench import data
from bench.latency import machine, measure
from bench.latency.agreement import IMAGES, Disagreement, agreement, images_of
from bench.latency.gate import WrongOutput
from bench.latency.prepare import Cell, Prepared, Variant

from .latency_fakes import CONFIG, DENSE, MASKED, SHAPE, Clock, Shelf, convnet, scripted
from .test_latency import drop_in, only

CELL = Cell("cpu", "fp32", 4, 1)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No other process disturbs, whatever runs beside the tests."""
    monkeypatch.setattr(machine, "busy", lambda: 0.0)


def drawn(count, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def prepared(net, batch=4):
    x = torch.zeros(batch, *SHAPE)
    return Prepared("some", Variant("eager", "nchw"), "", lambda: net(x), lambda: net(x), x=x)


def balanced():
    """A net that gives images different classes."""
    net = convnet()
    with torch.no_grad():
        net[4].bias -= net(drawn(200, seed=1)).mean(0)
    return net


def undecided():
    """A net to which all images are of the first two classes alike."""
    net = convnet()
    net[4].weight.data[1] = net[4].weight.data[0]
    net[4].bias.data[:] = torch.tensor([9.0, 9.0, -9, -9, -9])
    return net


@pytest.mark.parametrize("count", [1, 4, 10, 30])
def test_the_same_net_agrees_whatever_the_batch(count):
    net = balanced()
    wanted = agreement(net, CELL, drawn(count))
    assert len(wanted.classes.unique()) > (count > 4)
    with torch.inference_mode():
        for batch in (1, 3, 4, 64):
            assert wanted.check(prepared(net, batch)) == 1


def test_the_share_is_that_of_images_with_the_same_class():
    net, other, images = balanced(), balanced(), drawn(50)
    other[4].bias.data[2] += 0.3
    wanted = agreement(net, CELL, images)
    with torch.inference_mode():
        same = float((net(images).argmax(1) == other(images).argmax(1)).float().mean())
        assert 0 < same < 0.99
        with pytest.raises(ArithmeticError, match=f"{100 * same:.1f} % of 50 images"):
            wanted.check(prepared(other))


def test_what_is_timed_afterwards_reads_what_it_read_before():
    net, other, images = balanced(), balanced(), drawn(50)
    other[4].bias.data[2] += 0.3
    wanted, x = agreement(net, CELL, images), drawn(4, seed=2)
    for model, fits in ((net, True), (other, False)):
        side = prepared(model)
        side.x.copy_(x)
        if fits:
            wanted.check(side)
        else:
            with pytest.raises(Disagreement) as raised:
                wanted.check(side, 1e-7)
            assert (raised.value.distance, raised.value.share < 0.99) == (1e-7, True)
        assert torch.equal(side.x, x)


def test_no_number_is_no_class():
    net, images = balanced(), drawn(20)
    net[4].bias.data[0] += 100  # argmax of NaN alone would be this class, too
    wanted = agreement(net, CELL, images)
    broken = copy.deepcopy(net)
    broken[4].bias.data[3] = torch.nan
    with pytest.raises(Disagreement, match=r"^0.0 % of 20 images"):
        wanted.check(prepared(broken))


def test_a_net_of_which_rounding_leaves_nothing_is_refused():
    net = undecided()
    net[4].weight.data[1] *= -1e-4
    net[4].weight.data[0] *= 1e-4
    with pytest.raises(WrongOutput, match="nothing can be checked: in bf16"):
        agreement(net, CELL._replace(dtype="bf16"), drawn(200))


def test_a_low_precision_may_differ_as_often_as_the_plain_net_in_it():
    net, images = undecided(), drawn(200)
    torch.manual_seed(0)
    net[4].weight.data[1] += 2e-2 * torch.randn(512)  # a margin that bf16 rounds away
    assert agreement(net, CELL, images).least == pytest.approx(0.99)
    low = copy.deepcopy(net).bfloat16()
    with torch.inference_mode():
        wanted = agreement(net, CELL._replace(dtype="bf16"), images)
        apart = (low(images.bfloat16()).argmax(1) != net(images).argmax(1)).float().mean()
    assert apart > 0.01
    assert wanted.least == pytest.approx(1 - 1.5 * float(apart), abs=0.05)


NEAR = """
DTYPES = {"cpu": ("fp32", "bf16")}
def supports(layer, name):
    return True, ""
def convert(model):
    model.get_submodule("4").bias.data[1] += 3e-5
    return model
"""


def measured(images, config=CONFIG, net=None):
    shelf = Shelf()
    if net is not None:
        shelf.nets["masked"] = net
    return measure(
        [MASKED], DENSE, SHAPE, config, timer=Clock(scripted), load=shelf, images=lambda: images
    )


def test_what_the_norm_cannot_see_the_classes_do(tmp_path, monkeypatch):
    drop_in(tmp_path, monkeypatch, "near_path", NEAR)
    config = CONFIG.model_copy(update={"paths": ("near_path",)})
    net = undecided()
    net[0].weight.data[:, :, 1] = 0
    row = only(measured(drawn(40), config, net), path="near_path", run="masked")
    assert row["status"] == "failed"
    assert 0 < row["output_error"] < 1e-5
    assert row["top1_agreement"] == 0
    assert "0.0 % of 40 images get the pruned net's class; 99.0 % have to" in row["reason"]


def test_rows_say_it_where_there_are_images_and_at_the_largest_batch_alone():
    config = CONFIG.model_copy(update={"batch_sizes": (1, 2)})
    for rows, there in ((measured(drawn(9), config), True), (measured(None, config), False)):
        timed = [row for row in rows if row["status"] == "ok"]
        assert {row["run"] for row in timed} == {"dense", "masked"}
        for row in timed:
            assert row["top1_agreement"] == (1.0 if there and row["batch"] == 2 else None)


def test_images_are_the_first_of_the_validation_split_as_a_net_sees_them(tmp_path):
    found = data.load("digits", tmp_path)
    images = images_of("digits", tmp_path)
    assert len(images) == min(IMAGES, len(found.validation))
    first = next(iter(found.validation.batches(7)))[0]
    assert torch.equal(images[:7], found.normalise(first))


def test_without_the_data_set_or_classes_nothing_is_checked(tmp_path):
    assert images_of("cifar10", tmp_path) is None
    assert images_of("wave32", tmp_path) is None
