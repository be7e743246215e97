"""Weights on few levels: their values, and the gradients that pass the rounding."""

from __future__ import annotations

import pytest
import torch

from bench.surgery.quantise import quantise


def test_int8_has_255_levels_and_the_author_s_scale():
    weight = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    weight[7] = -5.0
    levels = 127.5 / 5 * quantise(weight, "int8")
    assert torch.allclose(levels, torch.round(127.5 / 5 * weight).clamp(-127, 127))
    assert len(quantise(torch.linspace(-5, 5, 9999), "int8").unique()) == 255
    assert (quantise(weight, "int8") - weight).abs().max() <= 0.5 / 25.5 + 1e-6


@pytest.mark.parametrize("kind", ["int8", "ternary", "binary"])
def test_a_tensor_of_zeros_stays_one(kind):
    assert quantise(torch.zeros(5), kind).tolist() == [0] * 5


def test_ternary_and_binary_values():
    weight = torch.tensor([3.0, -1.0, 0.1, -2.0, 9.0])
    mask = torch.tensor([1.0, 1, 1, 1, 0])
    a = 2.5  # the mean of 3 and 2; 0.7 times the mean of 3, 1, .1, 2 is 1.07
    assert quantise(weight, "ternary", mask).tolist() == [a, 0, 0, -a, 0]
    b = 6.1 / 4
    assert quantise(weight, "binary", mask).tolist() == pytest.approx([b, -b, b, -b, 0])


@pytest.mark.parametrize("kind", ["int8", "ternary", "binary"])
@pytest.mark.parametrize("mode", ["ste", "author"])
def test_gradients_pass_the_rounding(kind, mode):
    """Slope 1; the authors' 0.4 up to |w| = 2.5 and none beyond."""
    weight = torch.tensor([0.5, -2.4, 2.6, 5.1, 1.0], requires_grad=True)
    mask = torch.tensor([1.0, 1, 1, 1, 0], requires_grad=True)
    quantise(weight, kind, mask, mode).sum().backward()
    slope = [1, 1, 1, 1, 0] if mode == "ste" else [0.4, 0.4, 0, 0, 0]
    assert weight.grad.tolist() == pytest.approx(slope)
    assert mask.grad[4] != 0  # what is pruned tells its logit what it would be worth
