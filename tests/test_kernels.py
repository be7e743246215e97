from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from bench import kernels

from .latency_fakes import SHAPE, convnet

PATH = """
from torch import nn
DTYPES, MODES = {"cpu": ("fp32",)}, ("eager",)
def supports(layer, name):
    able = isinstance(layer, nn.Linear) and layer.in_features % 16 == 0
    return able, "" if able else f"{type(layer).__name__} is no Linear of 16n inputs"
def convert(model):
    return model
"""


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """A path's file dropped into a folder that the registry reads."""
    monkeypatch.setattr(kernels, "__path__", [*kernels.__path__, str(tmp_path)])

    def drop(name, body):
        (tmp_path / f"{name}.py").write_text(body)
        monkeypatch.delitem(sys.modules, f"bench.kernels.{name}", raising=False)

    return drop


def test_every_file_is_a_complete_path():
    assert {"dense", "masked_dense"} <= set(kernels.names())
    for name in kernels.names():
        kernel = kernels.load(name)
        assert set(kernel.dtypes) <= {"cpu", "cuda"}
        assert all(
            set(dtypes) <= {"fp32", "tf32", "fp16", "bf16"} for dtypes in kernel.dtypes.values()
        )
        assert set(kernel.modes) <= {"eager", "graph", "compile"}
        assert kernel.supports.__doc__
        assert kernel.convert.__doc__


def test_a_dropped_in_file_is_a_path(dropped):
    dropped("linear_only", PATH)
    kernel = kernels.load("linear_only")
    assert kernel.name in kernels.names()
    assert kernel.modes == ("eager",)
    assert kernel.layouts == ("nchw", "nhwc")
    assert kernel.applies(convnet(), convnet(), "cpu", "fp32") == (True, "")


def test_a_refusal_says_why(dropped):
    dropped("linear_only", PATH)
    kernel, net = kernels.load("linear_only"), nn.Sequential(nn.Conv2d(3, 3, 1))
    assert kernel.applies(net, net, "cpu", "fp32") == (
        False,
        "no layer is supported: Conv2d is no Linear of 16n inputs",
    )
    assert "not on cuda" in kernel.applies(net, net, "cuda", "fp32")[1]
    assert "not in bf16" in kernel.applies(net, net, "cpu", "bf16")[1]


def test_an_incomplete_or_unknown_path_is_named(dropped):
    dropped("half", "MODES = ('eager',)\ndef supports(layer, name): ...\n")
    with pytest.raises(kernels.KernelError, match=r"half\.py lacks convert, DTYPES"):
        kernels.load("half")
    with pytest.raises(
        kernels.KernelError, match=r"no execution path 'nothing'; there are: .*dense"
    ):
        kernels.load("nothing")


def test_each_net_has_exactly_one_dense_path():
    dense, masked, shrunk = convnet(), convnet(), convnet(4)
    for model, expected in ((masked, "masked_dense"), (shrunk, "dense"), (dense, "dense")):
        able = {
            name
            for name in ("dense", "masked_dense")
            if kernels.load(name).applies(model, dense, "cpu", "fp32")[0]
        }
        assert expected in able
        assert able == {expected} or model is dense


@pytest.mark.parametrize("name", ["dense", "masked_dense"])
def test_dense_paths_change_no_output(name):
    net, x = convnet(), torch.randn(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(kernels.load(name).convert(net)(x), convnet()(x))
