"""Data sets that people bring: arrays, image folders, and Tiny-ImageNet in both its layouts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from bench import data, rng
from bench.data import DataError, folder, stream
from bench.data.dataset import TensorSplit
from bench.data.source import Files, Pin
from tests.data_sets import everything, sha256, sign, truncate, write_arrays, write_folder


@pytest.mark.parametrize("shape", [(9, 7, 3), (8, 8)])
def test_own_arrays_work_from_end_to_end(shape, tmp_path):
    write_arrays(tmp_path / "own", shape=shape)
    (tmp_path / "own" / "LICENSE").write_text("\nCC0, me\nmore\n")
    channels = shape[2] if len(shape) == 3 else 1
    assert data.describe_shape("arrays:own", tmp_path) == ((channels, *shape[:2]), 4)
    assert data.describe(tmp_path)["arrays:own"].there
    found = data.prepare("arrays:own", tmp_path)
    assert found == {
        "name": "arrays:own",
        "digest": data.load("arrays:own", tmp_path).digest,
        "licence": "CC0, me",
        "splits": {"train": 180, "validation": 20, "test": 50},
        "shape": [channels, *shape[:2]],
        "classes": 4,
    }


def test_arrays_named_like_a_public_set_stand_in_for_it(tmp_path):
    write_arrays(tmp_path / "cifar10", samples=100, classes=10, shape=(32, 32, 3))
    loaded = data.load("cifar10", tmp_path)
    assert (loaded.name, loaded.shape, loaded.classes) == ("cifar10", (3, 32, 32), 10)
    assert "Krizhevsky" in loaded.licence
    assert data.describe(tmp_path)["cifar10"].there
    assert "arrays:cifar10" not in data.describe(tmp_path)
    assert loaded.digest == data.load("arrays:cifar10", tmp_path).digest


@pytest.mark.parametrize(("shape", "classes"), [((16, 16, 3), 10), ((32, 32, 3), 9)])
def test_arrays_that_contradict_the_public_set_are_refused(shape, classes, tmp_path):
    write_arrays(tmp_path / "cifar10", samples=100, classes=classes, shape=shape)
    with pytest.raises(DataError, match=r"cifar10 has|must be 0 to 9"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_images", np.zeros((200, 9, 7, 3), np.float32), "must be uint8"),
        ("train_images", np.zeros((200, 3, 9, 7), np.uint8), "channels must come last"),
        ("train_images", np.zeros((199, 9, 7, 3), np.uint8), "199 images but 200 labels"),
        ("test_images", np.zeros((50, 9, 9, 3), np.uint8), "but arrays:own has"),
        ("train_labels", np.zeros(200), "must be integers"),
        ("train_labels", np.arange(200) % 4 - 1, "must be integers from 0"),
        ("train_labels", np.arange(200) % 2 * 2, "must be 0 to 2, each of them there"),
        ("train_labels", np.zeros(200, np.int64), "must be 0 to 1"),
        ("test_labels", np.arange(50), "a label is 49, but train has 4 classes"),
        ("test_labels", np.array([object()] * 50), "not an array in npy format"),
    ],
)
def test_arrays_of_another_form_are_refused_by_name(file, content, message, tmp_path):
    path = write_arrays(tmp_path / "own")
    np.save(path / f"{file}.npy", content, allow_pickle=True)
    sign(path)
    with pytest.raises(DataError, match=message) as caught:
        data.load("arrays:own", tmp_path)
    assert str(path) in str(caught.value)


def test_sums_without_a_line_or_malformed_are_refused(tmp_path):
    path = write_arrays(tmp_path / "own") / "SHA256SUMS"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match=f"{path}: has no line for test_images.npy"):
        data.load("arrays:own", tmp_path)
    path.write_text("what is this\n")
    with pytest.raises(DataError, match=f"{path}: line 1 is not"):
        data.load("arrays:own", tmp_path)


def test_streaming_gives_the_batches_of_memory_whatever_the_workers(tmp_path, monkeypatch):
    write_folder(tmp_path / "zoo", size=(20, 17))
    held = data.load("folder:zoo", tmp_path)
    monkeypatch.setattr(folder, "IN_MEMORY", 0)
    streamed = data.load("folder:zoo", tmp_path)
    assert isinstance(held.train, TensorSplit)
    assert isinstance(streamed.train, stream.FileSplit)
    assert (
        (held.shape, held.digest) == (streamed.shape, streamed.digest) == ((3, 17, 17), held.digest)
    )
    assert (held.mean, held.std) == (streamed.mean, streamed.std)  # 54 images: the sample is all
    order = torch.randperm(len(held.train), generator=rng.generator("x"))
    expected = everything(held.train, 8, order)
    for workers in (0, 1, 2):
        streamed.train.workers = workers
        state = torch.random.get_rng_state()
        found = everything(streamed.train, 8, order)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    sizes = [len(labels) for _, labels in streamed.train.batches(8, order, drop_last=True)]
    assert sizes == [8] * 6
    assert list(streamed.train.batches(8, order[:0])) == []


def test_broken_image_is_one_clear_error_in_memory_and_in_a_worker(tmp_path, monkeypatch):
    zoo = write_folder(tmp_path / "zoo")
    broken = zoo / "val" / "bee" / "bee_val_2.PNG"
    truncate(broken)
    size = broken.stat().st_size
    with pytest.raises(DataError, match=rf"^{broken}: cannot be decoded: .*put the original"):
        data.load("folder:zoo", tmp_path)
    monkeypatch.setattr(folder, "IN_MEMORY", 0)
    with pytest.raises(DataError, match=rf"^{broken}: cannot be decoded: .*put the original"):
        everything(data.load("folder:zoo", tmp_path).test)
    assert broken.stat().st_size == size


def test_images_are_resized_and_cut_at_the_centre_as_torchvision_does(tmp_path):
    from PIL import Image
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ours = stream.decode(tmp_path / "a.png", 28)
    theirs = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28)])
    assert np.array_equal(ours, np.asarray(theirs(Image.fromarray(pixels))).transpose(2, 0, 1))
    exact = stream.decode_all(Files((tmp_path / "a.png",), 61))
    assert exact.shape == (1, 3, 61, 61)


def test_image_of_the_wanted_size_is_untouched_and_size_can_be_chosen(tmp_path):
    from PIL import Image

    zoo = write_folder(tmp_path / "zoo")
    first = next(iter(sorted((zoo / "val" / "ape").iterdir())))
    image, _ = next(data.load("folder:zoo", tmp_path).test.batches(1))
    assert np.array_equal(image[0].numpy(), np.asarray(Image.open(first)).transpose(2, 0, 1))
    small = data.load("folder:zoo@8", tmp_path)
    assert small.shape == (3, 8, 8) == data.describe_shape("folder:zoo@8", tmp_path)[0]
    same = data.load("folder:zoo", tmp_path)
    assert torch.equal(small.validation.labels, same.validation.labels)
    assert small.digest != same.digest


def test_folder_digest_sees_content_and_its_sums_are_checked(tmp_path):
    zoo = write_folder(tmp_path / "zoo")
    clean = data.load("folder:zoo", tmp_path).digest
    images = sorted(zoo.rglob("*.PNG"))
    lines = [f"{sha256(image)}  ./{image.relative_to(zoo)}\n" for image in images]
    (zoo / "SHA256SUMS").write_text("".join(lines))
    assert data.load("folder:zoo", tmp_path).digest == clean
    expected = sha256(images[0])
    shutil.copy(images[1], images[0])
    with pytest.raises(DataError, match=rf"{images[0]}: truncated or altered: .*{expected}"):
        data.load("folder:zoo", tmp_path)
    (zoo / "SHA256SUMS").write_text("".join(lines[1:]))
    with pytest.raises(DataError, match=rf"{images[0]}: is not in"):
        data.load("folder:zoo", tmp_path)
    (zoo / "SHA256SUMS").unlink()
    assert data.load("folder:zoo", tmp_path).digest != clean


def test_folders_that_disagree_or_are_empty_are_refused(tmp_path):
    zoo = write_folder(tmp_path / "zoo")
    shutil.rmtree(zoo / "val" / "cat")
    with pytest.raises(DataError, match="class 'cat' is in train/ but not in val/"):
        data.load("folder:zoo", tmp_path)
    (zoo / "val" / "cat").mkdir()
    with pytest.raises(DataError, match=f"{zoo}/val/cat: no image"):
        data.load("folder:zoo", tmp_path)
    shutil.rmtree(zoo / "val")
    with pytest.raises(DataError, match=f"{zoo}/val: no such folder"):
        data.load("folder:zoo", tmp_path)


def test_both_layouts_of_tiny_imagenet_are_the_same_data_set(tmp_path, monkeypatch):
    expected = {"train": (60, 3), "val": (12, 3)}
    monkeypatch.setattr(folder.TinyImageNet, "expected", expected)
    sorted_root, raw_root = tmp_path / "sorted", tmp_path / "raw"
    write_folder(sorted_root / "tiny-imagenet-200", size=(64, 64))
    shutil.copytree(sorted_root, raw_root)
    val = raw_root / "tiny-imagenet-200" / "val"
    (val / "images").mkdir()
    notes = []
    for image in sorted(val.glob("*/*.PNG"), key=lambda path: sha256(path)):
        notes.append(f"{image.name}\t{image.parent.name}\t0\t0\t9\t9\n")
        image.rename(val / "images" / image.name)
    for name in ("ape", "bee", "cat"):
        (val / name).rmdir()
    (val / "val_annotations.txt").write_text("".join(notes))
    ours, theirs = (data.load("tiny_imagenet_200", root) for root in (sorted_root, raw_root))
    assert ours.digest == theirs.digest
    for part in ("train", "validation", "test"):
        a, b = everything(getattr(ours, part)), everything(getattr(theirs, part))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    gone = val / "images" / "bee_val_1.PNG"
    gone.unlink()
    with pytest.raises(DataError, match=f"^{gone}: no such file"):
        data.load("tiny_imagenet_200", raw_root)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"\(60, 3\), expected \(100000, 200\)"):
        data.load("tiny_imagenet_200", sorted_root)


def test_part_of_tiny_imagenet_loads_as_a_folder(data_root):
    if not data.describe(data_root).get("folder:tiny-imagenet-20"):
        pytest.skip(f"no tiny-imagenet-20 under {data_root}")
    loaded = data.load("folder:tiny-imagenet-20", data_root)
    assert (loaded.shape, loaded.classes) == ((3, 64, 64), 20)
    assert data.info(loaded)["splits"] == {"train": 9000, "validation": 1000, "test": 1000}
    assert torch.bincount(loaded.validation.labels).tolist() == [50] * 20


def test_pin_refuses_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read"):
        Pin(tmp_path, "0" * 64).check("")


@pytest.mark.gpu
def test_batches_are_the_same_bits_on_the_gpu(tmp_path, monkeypatch):
    write_folder(tmp_path / "zoo")
    for limit in (folder.IN_MEMORY, 0):
        monkeypatch.setattr(folder, "IN_MEMORY", limit)
        cpu, gpu = (data.load("folder:zoo", tmp_path, device) for device in ("cpu", "cuda"))
        order = torch.randperm(len(cpu.train), generator=rng.generator("x"))
        for a, b in zip(
            everything(cpu.train, 8, order), everything(gpu.train, 8, order), strict=True
        ):
            assert b.is_cuda
            assert torch.equal(a, b.cpu())
