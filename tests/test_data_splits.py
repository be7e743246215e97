"""Splits and batches: fixed for ever, by class, disjoint; the order decides the rest."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench import data
from bench.data import DataError
from bench.data.dataset import TensorSplit
from bench.data.split import cut, held_out
from tests.data_sets import everything, sign, write_arrays


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_cut_is_a_partition_and_every_class_gives_its_share(classes):
    random = np.random.default_rng(classes)
    labels = random.choice(classes, 3001, p=random.dirichlet(np.ones(classes) * 3))
    rest, chosen = cut(labels, 300, "split", "x")
    assert np.array_equal(np.sort(np.concatenate([rest, chosen])), np.arange(3001))
    assert len(chosen) == 300
    share = np.bincount(labels, minlength=classes) * 300 / 3001
    assert np.abs(np.bincount(labels[chosen], minlength=classes) - share).max() < 1


def test_cut_keeps_a_sample_of_every_class_and_refuses_what_it_cannot_hold_out():
    rest, _ = cut(np.array([0] * 30 + [1, 2, 3]), 3, "split", "x")
    assert set(rest) >= {30, 31, 32}
    with pytest.raises(DataError, match="too few"):
        cut(np.arange(20), 2, "split", "x")
    with pytest.raises(DataError, match="too few"):
        cut(np.zeros(4, np.int64), held_out(4), "split", "x")


def test_held_out_is_5000_of_the_common_sizes_and_a_tenth_of_others():
    sizes = [1437, 49_999, 50_000, 60_000, 73_257, 100_000]
    assert [held_out(n) for n in sizes] == [144, 5000, 5000, 5000, 7326, 10_000]


def test_split_does_not_depend_on_process_seed_or_global_state():
    """The pinned hash: whoever changes it changes every result that was ever measured."""
    code = (
        "import hashlib, numpy as np, torch; np.random.seed({0}); torch.manual_seed({0});"
        "from bench.data.split import cut;"
        "print(hashlib.sha256(cut(np.arange(5000) % 7, 500, 'split', 'x')[1].astype('<i8')"
        ".tobytes()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code.format(seed)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in (0, 1)
    }
    assert outputs == {"d6eda3a4375db7094dcfba5300f0af7056835e98030b2a75fae459198aca9bda"}


def test_digits_are_pinned_with_their_splits():
    loaded = data.load("digits", "nowhere")
    parts = (loaded.train, loaded.validation, loaded.test)
    assert [len(part) for part in parts] == [1294, 144, 359]
    state = hashlib.sha256()
    for part in parts:
        state.update(part.images.numpy().tobytes() + part.labels.numpy().astype("<i8").tobytes())
    assert loaded.digest == "834222da97d6487ca849e4b24c1569330070416cad7f6088a1a7394d1c4f9618"
    assert state.hexdigest() == "7eafbaaa38466181ff3f6de9ce00a996bd5feee796c0cd5113d7920ca3b2ab76"


def test_validation_comes_from_train_and_test_is_untouched(tmp_path):
    path = write_arrays(tmp_path / "own")
    loaded = data.load("arrays:own", tmp_path)
    images, labels = everything(loaded.test)
    original = np.load(path / "test_images.npy").transpose(0, 3, 1, 2)
    assert np.array_equal(images.numpy(), original)
    assert np.array_equal(labels.numpy(), np.load(path / "test_labels.npy"))
    ours = [everything(split)[0].numpy() for split in (loaded.train, loaded.validation)]
    both = {image.tobytes() for image in np.concatenate(ours)}
    train = np.load(path / "train_images.npy").transpose(0, 3, 1, 2)
    assert both == {np.ascontiguousarray(image).tobytes() for image in train}
    assert [len(x) for x in ours] == [180, 20]
    assert torch.bincount(loaded.validation.labels).tolist() == [5] * 4


def test_normalised_train_has_mean_0_and_deviation_1_and_statistics_leave_validation_out(tmp_path):
    write_arrays(tmp_path / "own")
    loaded = data.load("arrays:own", tmp_path)
    images, _ = everything(loaded.train)
    normal = loaded.normalise(images).double()
    assert normal.mean((0, 2, 3)).abs().max() < 1e-6
    assert (normal.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6
    assert loaded.mean == pytest.approx((images.double() / 255).mean((0, 2, 3)).tolist(), abs=1e-12)


def test_a_constant_channel_is_refused(tmp_path):
    path = write_arrays(tmp_path / "own")
    images = np.load(path / "train_images.npy")
    images[..., 1] = 7
    np.save(path / "train_images.npy", images)
    sign(path)
    with pytest.raises(DataError, match="channel 1 has the same value in every training image"):
        data.load("arrays:own", tmp_path)


def test_batches_follow_the_order_and_natural_order_is_the_split():
    split = TensorSplit(torch.arange(10, dtype=torch.uint8)[:, None, None, None], torch.arange(10))
    order = torch.tensor([3, 3, 9, 0, 1])
    batches = list(split.batches(2, order))
    assert [labels.tolist() for _, labels in batches] == [[3, 3], [9, 0], [1]]
    assert all(torch.equal(i.flatten().long(), labels) for i, labels in batches)
    assert [labels.tolist() for _, labels in split.batches(2, order, drop_last=True)] == [
        [3, 3],
        [9, 0],
    ]
    assert everything(split, 4)[1].tolist() == list(range(10))
    assert list(split.batches(2, torch.empty(0, dtype=torch.int64))) == []
    assert list(split.batches(11, drop_last=True)) == []


@pytest.mark.parametrize(
    ("size", "order", "message"),
    [
        (0, None, "batch_size is 0"),
        (2, torch.tensor([0, 10]), "outside 0 to 9"),
        (2, torch.tensor([-1]), "outside 0 to 9"),
        (2, torch.tensor([0.0]), "must be int64"),
        (2, torch.tensor([[0]]), "must be int64"),
    ],
)
def test_batches_refuse_nonsense_at_once(size, order, message):
    split = TensorSplit(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10))
    with pytest.raises(ValueError, match=message):
        split.batches(size, order)
