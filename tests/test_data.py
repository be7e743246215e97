"""The named data sets: what they hold, what damage is caught, and that no network is touched."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import socket
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from bench import data
from bench.data import DataError, cifar, digits
from tests.data_sets import everything, flip_byte, sha256, snapshot, truncate, write_arrays


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whatever asks for the address of another machine fails."""
    real = socket.getaddrinfo

    def refuse(host, *args, **kwargs):
        if host != "127.0.0.1":
            raise OSError(f"the tests have no network, but {host} was asked for")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_package_starts_without_torch_numpy_or_any_family():
    code = (
        "import sys, bench.data as d; d.names(); d.unknown('x');"
        "print(sorted({'torch', 'numpy', 'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_digits_imports_neither_torchvision_nor_sklearn():
    code = (
        "import sys; from bench import data; data.load('digits', 'nowhere');"
        "print(sorted({'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_digits_are_those_of_scikit_learn_rescaled_to_bytes():
    from sklearn.datasets import load_digits

    loaded, original = data.load("digits", "nowhere"), load_digits()
    parts = [everything(s) for s in (loaded.train, loaded.validation, loaded.test)]
    ours = torch.cat([images for images, _ in parts]).flatten(1).numpy()
    expected = np.rint(original.images.reshape(-1, 64) * 255 / 16).astype(np.uint8)
    labels = torch.cat([labels for _, labels in parts]).numpy()
    rows = lambda x, y: sorted((*a.tolist(), int(b)) for a, b in zip(x, y, strict=True))  # noqa: E731
    assert rows(ours, labels) == rows(expected, original.target)
    assert len(np.unique(ours)) == 17
    assert ours.max() == 255


@pytest.mark.parametrize("name", data.names())
def test_known_geometry_needs_no_files(name, tmp_path):
    (channels, height, width), classes = data.describe_shape(name, tmp_path)
    assert channels in (1, 3)
    assert height == width
    assert classes in (1, 10, 100, 200)  # 1: a field has one output channel


@pytest.mark.parametrize(
    ("name", "train", "shape"),
    [
        ("mnist", 55_000, (1, 28, 28)),
        ("fashion_mnist", 55_000, (1, 28, 28)),
        ("cifar10", 45_000, (3, 32, 32)),
    ],
)
def test_real_data_sets_have_their_published_sizes_and_statistics(name, train, shape, data_root):
    if not data.describe(data_root)[name].there:
        pytest.skip(data.describe(data_root)[name].why)
    loaded = data.load(name, data_root)
    assert data.info(loaded)["splits"] == {"train": train, "validation": 5000, "test": 10_000}
    assert loaded.shape == shape == tuple(loaded.test.images.shape[1:])
    published = {  # of the whole training set, so equal up to the validation images
        "mnist": ([0.1307], [0.3081]),
        "fashion_mnist": ([0.2860], [0.3530]),
        "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    }[name]
    assert loaded.mean == pytest.approx(published[0], abs=1e-3)
    assert loaded.std == pytest.approx(published[1], abs=1e-3)
    assert torch.bincount(loaded.test.labels).tolist() == (
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009] if name == "mnist" else [1000] * 10
    )


def test_idx_files_are_read_as_torchvision_reads_them(data_root):
    from torchvision import datasets

    ours = data.load("mnist", data_root)
    theirs = datasets.MNIST(str(data_root), train=False)
    images, labels = everything(ours.test, 1000)
    assert torch.equal(images[:, 0], theirs.data)
    assert torch.equal(labels, theirs.targets)


def test_checksums_of_cifar_and_svhn_are_those_of_torchvision():
    from torchvision import datasets

    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        meta = [(kind.meta["filename"], kind.meta["md5"])]
        lists = [tuple(item) for item in (*kind.train_list, *kind.test_list, *meta)]
        assert (cifar.FILES[name][0], lists) == (
            kind.base_folder,
            list(cifar.FILES[name][1].items()),
        )
    pinned = {part: tuple(datasets.SVHN.split_list[part][1:]) for part in ("train", "test")}
    assert list(pinned.values()) == list(cifar.FILES["svhn"][1].items())


def test_pickled_cifar_is_read_with_channels_first_and_fine_labels(tmp_path, monkeypatch):
    """Files in CIFAR-100's format, with their own checksums in place of the official ones."""
    from torchvision import datasets

    planes = np.random.default_rng(0).integers(0, 256, (2, 300, 3, 32, 32), np.uint8)
    base, md5s = tmp_path / "cifar-100-python", {}
    base.mkdir()
    labels = [i % 100 for i in range(300)]
    contents = {
        part: {"data": pixels.reshape(300, -1), "fine_labels": labels, "coarse_labels": [0] * 300}
        for part, pixels in zip(("train", "test"), planes, strict=True)
    } | {"meta": {"fine_label_names": [str(i) for i in range(100)]}}
    for file, content in contents.items():
        (base / file).write_bytes(pickle.dumps(content))
        md5s[file] = hashlib.md5((base / file).read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.FILES, "cifar100", (base.name, md5s))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5s["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5s["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": md5s["meta"]})
    loaded = data.load("cifar100", tmp_path)
    images, found = everything(loaded.test, 100)
    assert np.array_equal(images.numpy(), planes[1])
    assert found.tolist() == labels


def test_svhn_is_read_from_its_folder_with_ten_as_zero(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision import datasets

    planes, md5s = np.random.default_rng(0).integers(0, 256, (100, 3, 32, 32), np.uint8), {}
    (tmp_path / "svhn").mkdir()
    for part in ("train", "test"):
        file = tmp_path / "svhn" / f"{part}_32x32.mat"
        content = {"X": planes.transpose(2, 3, 1, 0), "y": (np.arange(100) % 10 + 1)[:, None]}
        savemat(file, content)
        md5s[part] = hashlib.md5(file.read_bytes()).hexdigest()
    lists = {part: ["", f"{part}_32x32.mat", md5] for part, md5 in md5s.items()}
    pins = {f"{part}_32x32.mat": md5 for part, md5 in md5s.items()}
    monkeypatch.setitem(cifar.FILES, "svhn", ("svhn", pins))
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    images, labels = everything(data.load("svhn", tmp_path).test)
    assert np.array_equal(images.numpy(), planes)
    assert labels.tolist() == [(i % 10 + 1) % 10 for i in range(100)]


@pytest.mark.parametrize("damage", [flip_byte, truncate])
def test_damaged_array_is_refused_with_both_checksums_and_left_alone(damage, tmp_path):
    path = write_arrays(tmp_path / "own") / "train_images.npy"
    expected = sha256(path)
    damage(path)
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        data.load("arrays:own", tmp_path)
    assert str(caught.value) == (
        f"{path}: truncated or altered: expected sha256 {expected}, found {sha256(path)} "
        f"({path.stat().st_size} bytes). Move it away and put the original there; "
        "nothing was changed or deleted"
    )
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("damage", [flip_byte, truncate])
def test_damaged_mnist_is_refused_even_with_download_and_left_alone(damage, tmp_path, data_root):
    shutil.copytree(data_root / "MNIST", tmp_path / "MNIST")
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    expected = sha256(path)
    damage(path)
    before = snapshot(tmp_path)
    for download in (False, True):
        with pytest.raises(DataError) as caught:
            data.prepare("mnist", tmp_path, download=download)
        message = str(caught.value)
        assert message.startswith(
            f"{path}: truncated or altered: expected sha256 {expected}, found {sha256(path)}"
        )
        assert "Move it away and set `download: true` in the config" in message
    assert snapshot(tmp_path) == before


def test_damaged_digits_are_refused(tmp_path, monkeypatch):
    copy = tmp_path / "digits.csv.gz"
    shutil.copy(digits.source("digits", tmp_path)._path(), copy)
    monkeypatch.setattr(digits.Digits, "_path", lambda self: copy)
    data.load("digits", tmp_path)
    copy.write_bytes(gzip.compress(gzip.decompress(copy.read_bytes()).replace(b"16", b"15", 1)))
    with pytest.raises(DataError, match=rf"{copy}: its content is altered: .*{digits.SHA256}"):
        data.load("digits", tmp_path)
    truncate(copy)
    with pytest.raises(DataError, match=rf"{copy}: cannot be unpacked: .*Reinstall"):
        data.load("digits", tmp_path)


def test_missing_file_names_path_checksum_and_what_to_do(tmp_path, data_root):
    shutil.copytree(data_root / "MNIST", tmp_path / "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.unlink()
    with pytest.raises(DataError, match=r"no such file \(expected sha256 ba89.* gunzip -k"):
        data.load("mnist", tmp_path)
    path.with_suffix(".gz").unlink()
    with pytest.raises(DataError, match=rf"{path}: .*Set `download: true`"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn", "tiny_imagenet_200"])
def test_absent_data_set_is_not_downloaded_unasked_and_says_how(name, tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path}.*download: true"):
        data.prepare(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    there, why = data.describe(tmp_path)[name]
    assert not there
    assert str(tmp_path) in why


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar100", "svhn", "tiny_imagenet_200"])
def test_failing_download_is_one_clear_error(name, tmp_path):
    with pytest.raises(DataError, match=f"{name}: could not be downloaded to {tmp_path}: "):
        data.prepare(name, tmp_path, download=True)


def test_allowed_download_fetches_checks_and_unpacks(tmp_path, data_root, monkeypatch):
    from torchvision import datasets

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=data_root / "MNIST" / "raw")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [mirror])
        found = data.prepare("mnist", tmp_path, download=True)
        server.shutdown()
    assert found == data.prepare("mnist", data_root)


def test_root_is_the_configs_else_the_environments_else_data(monkeypatch):
    monkeypatch.setenv("BENCH_DATA", "from/environment")
    assert data.root("from/config") == Path("from/config")
    assert data.root(None) == Path("from/environment")
    monkeypatch.delenv("BENCH_DATA")
    assert data.root(None) == Path("data")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "did you mean 'cifar10'"),
        ("imagenet", "unknown data set 'imagenet'.*folder:<name>"),
        ("folder:", "no name of a folder"),
        ("folder:../x", "no name of a folder"),
        ("folder:x@0", "no name of a folder"),
        ("arrays:x@3", "no name of a folder"),
        ("zip:x", "unknown data set 'zip:x'"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(name, message, tmp_path):
    assert data.unknown(name)
    with pytest.raises(DataError, match=message):
        data.load(name, tmp_path)


def test_folder_and_array_names_are_known_before_they_are_there(tmp_path):
    for name in ("folder:a/b-c_1.x", "folder:x@64", "arrays:x"):
        assert data.unknown(name) is None
        with pytest.raises(DataError, match=f"^{tmp_path}.*no such"):
            data.load(name, tmp_path)
