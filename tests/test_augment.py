"""Augmentation: against plain slices of padded images, and the same draws everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import rng
from bench.data.augment import PAD, augment

SHAPES = st.tuples(
    st.integers(1, 6), st.integers(1, 4), st.integers(PAD + 1, 12), st.integers(PAD + 1, 12)
)


def batch(shape) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=rng.generator("batch")).to(torch.uint8)


def padded(image: torch.Tensor) -> np.ndarray:
    return np.pad(image.numpy(), ((0, 0), (PAD, PAD), (PAD, PAD)), mode="reflect")


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 2**31))
def test_crop_is_a_slice_of_the_reflect_padded_image(shape, seed):
    images = batch(shape)
    _, _, height, width = shape
    cropped = augment(images, ("crop",), rng.generator(seed))
    draws = torch.randint(-PAD, PAD + 1, (2, shape[0], 1), generator=rng.generator(seed))
    for image, found, dy, dx in zip(images, cropped, *(draws[..., 0] + PAD).tolist(), strict=True):
        assert np.array_equal(found, padded(image)[:, dy : dy + height, dx : dx + width])


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(0, 2**31))
def test_flip_is_an_involution_and_mirrors_some_images_whole(shape, seed):
    images = batch(shape)
    once = augment(images, ("flip",), rng.generator(seed))
    assert torch.equal(augment(once, ("flip",), rng.generator(seed)), images)
    for image, found in zip(images, once, strict=True):
        assert torch.equal(found, image) or torch.equal(found, image.flip(2))


def test_every_offset_and_both_directions_occur_evenly():
    count = 8100
    image = batch((1, 1, 9, 9)).expand(count, 1, 9, 9)
    slices = padded(image[0])
    windows = {
        slices[:, y : y + 9, x : x + 9].tobytes(): 0
        for y in range(2 * PAD + 1)
        for x in range(2 * PAD + 1)
    }
    assert len(windows) == 81
    for found in augment(image, ("crop",), rng.generator("even")):
        windows[found.numpy().tobytes()] += 1
    # 100 expected for each; five deviations of the binomial are 50.
    assert all(50 < n < 150 for n in windows.values())
    flipped = augment(image, ("flip",), rng.generator("even"))
    assert abs(int((flipped != image).flatten(1).any(1).sum()) - count / 2) < 5 * count**0.5 / 2


def test_crop_and_flip_together_are_one_after_the_other():
    images = batch((32, 3, 8, 10))
    both = augment(images, ("flip", "crop"), rng.generator("x"))
    one = rng.generator("x")
    assert torch.equal(both, augment(augment(images, ("crop",), one), ("flip",), one))
    assert torch.equal(both, augment(images, ("crop", "flip"), rng.generator("x")))


def test_same_generator_same_bits_other_generator_other_bits():
    images = batch((64, 1, 8, 8))
    which = ("crop", "flip")
    first, again = (augment(images, which, rng.generator("a")) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(images, which, rng.generator("b")))


def test_draws_leave_the_global_generator_alone_and_images_unwritten():
    images = batch((8, 3, 8, 8))
    copy, state = images.clone(), torch.random.get_rng_state()
    augment(images, ("crop", "flip"), rng.generator("x"))
    assert torch.equal(images, copy)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("which", [(), ("crop",), ("flip",), ("crop", "flip")])
def test_shape_and_type_stay_and_nothing_asked_changes_nothing(which):
    images = batch((5, 2, 8, 6))
    found = augment(images, which, rng.generator("x"))
    assert (found.shape, found.dtype, found.is_contiguous()) == (images.shape, torch.uint8, True)
    assert which or torch.equal(found, images)


def test_unknown_names_and_images_too_small_are_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'cutout'"):
        augment(batch((1, 1, 8, 8)), ("crop", "cutout"), rng.generator("x"))
    with pytest.raises(ValueError, match="8x4 images have no 4 pixels to reflect"):
        augment(batch((1, 1, 8, 4)), ("crop",), rng.generator("x"))


@pytest.mark.gpu
def test_augmentation_is_the_same_bits_on_the_gpu():
    images = batch((16, 3, 32, 32))
    found = augment(images.cuda(), ("crop", "flip"), rng.generator("x"))
    assert torch.equal(found.cpu(), augment(images, ("crop", "flip"), rng.generator("x")))
