"""A net whose layers were changed comes back from disk bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import models, rng
from bench.surgery import store
from bench.surgery.channels import SurgeryError, groups, shrink
from bench.surgery.removal import scatter

SHAPE, CLASSES = (3, 32, 32), 10


def build(arch: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    with rng.forked("init", arch, 0):
        model = models.build(arch, SHAPE, CLASSES)
    scatter(model, rng.generator("test", arch))
    return model.to(dtype).eval()


def half(model: nn.Module) -> nn.Module:
    stream = rng.generator("half")
    keep = {
        g.name: torch.randperm(g.size, generator=stream) < g.size // 2 for g in groups(model, SHAPE)
    }
    return shrink(model, SHAPE, keep)


def output(model: nn.Module) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return model.eval()(torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, *SHAPE).to(dtype))


def assert_exact(model: nn.Module, folder: Path, arch: str) -> nn.Module:
    store.save(model, folder, arch, SHAPE, CLASSES)
    loaded = store.load(folder)
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name])
    assert store.digest(loaded) == store.digest(model)
    assert torch.equal(output(model), output(loaded))
    return loaded


@pytest.mark.parametrize(
    "arch", ["lenet5", "resnet8", "lstm", "timm:mobilenetv2_050", "timm:repvgg_a0"]
)
def test_a_shrunk_net_comes_back_exactly(arch: str, tmp_path: Path) -> None:
    model = half(build(arch))
    assert sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in build(arch).parameters()
    )
    loaded = assert_exact(model, tmp_path, arch)
    for (name, a), (_, b) in zip(model.named_modules(), loaded.named_modules(), strict=True):
        assert type(a) is type(b), name


def test_an_unchanged_net_has_no_layer_in_its_structure(tmp_path: Path) -> None:
    assert_exact(build("resnet8"), tmp_path, "resnet8")
    assert json.loads((tmp_path / "structure.json").read_text())["layers"] == {}


def test_a_loaded_net_can_be_shrunk_and_trained_again(tmp_path: Path) -> None:
    loaded = half(assert_exact(half(build("lstm")), tmp_path, "lstm"))
    loaded.train()(torch.zeros(2, *SHAPE)).sum().backward()
    assert loaded.lstm.hidden_size == 32
    assert all(p.grad is not None for p in loaded.parameters())


def test_a_layer_replaced_by_a_chain_comes_back(tmp_path: Path) -> None:
    model = build("lenet5")
    model.conv2 = nn.Sequential(
        nn.Conv2d(20, 4, 1, bias=False), nn.Sequential(nn.Conv2d(4, 50, 5), nn.Identity())
    )
    model.fc1 = nn.Sequential(nn.Linear(50 * 25, 7, bias=False), nn.Linear(7, 500))
    loaded = assert_exact(model, tmp_path, "lenet5")
    assert isinstance(loaded.conv2[1][1], nn.Identity)


def test_every_dtype_is_kept(tmp_path: Path) -> None:
    assert_exact(half(build("lenet300", torch.float64)), tmp_path / "f64", "lenet300")
    assert_exact(half(build("lenet300")).to(torch.bfloat16), tmp_path / "bf16", "lenet300")


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    model = build("sap_cnn")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[1].bias = norms[1].weight
    loaded = assert_exact(model, tmp_path, "sap_cnn")
    norms = [m for m in loaded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms[1].bias is norms[1].weight
    assert norms[0].bias is not norms[0].weight


def test_loading_draws_no_random_number(tmp_path: Path) -> None:
    store.save(build("lenet5"), tmp_path, "lenet5", SHAPE, CLASSES)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    store.load(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_module_that_cannot_be_described_is_refused_by_name(tmp_path: Path) -> None:
    model = build("lenet5")
    model.conv2 = nn.Sequential(model.conv2, nn.Hardtanh())
    with pytest.raises(SurgeryError, match=r"conv2\.1 was replaced by a Hardtanh"):
        store.save(model, tmp_path, "lenet5", SHAPE, CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    model = build("lenet5")
    store.save(model, first, "lenet5", SHAPE, CLASSES)
    with torch.no_grad():
        model.fc2.bias[0] += 1
    store.save(model, second, "lenet5", SHAPE, CLASSES)
    (second / "model.safetensors").replace(first / "model.safetensors")
    with pytest.raises(SurgeryError, match="is not the file"):
        store.load(first)
    with pytest.raises(SurgeryError, match=r"holds no model\.safetensors"):
        store.load(second)


def test_a_failed_save_leaves_the_old_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("lenet5")
    store.save(model, tmp_path, "lenet5", SHAPE, CLASSES)
    files = sorted(p.name for p in tmp_path.iterdir())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        store.save(build("lenet5"), tmp_path, "lenet5", SHAPE, CLASSES)
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    assert store.digest(store.load(tmp_path)) == store.digest(model)


@pytest.mark.parametrize("change", ["value", "dtype", "shape", "name"])
def test_the_digest_sees_every_change(change: str) -> None:
    one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    other.load_state_dict(one.state_dict())
    assert store.digest(one) == store.digest(other)
    with torch.no_grad():
        if change == "value":
            other.bias[1] += 1
        elif change == "shape":
            other.weight.data = other.weight.data.view(3, 2, 1)
        elif change == "dtype":
            other.bias.data = torch.zeros(3, dtype=torch.float16)
            one.bias.data = torch.zeros(3, dtype=torch.bfloat16)
        else:
            other = nn.Sequential(other)
    assert store.digest(one) != store.digest(other)
