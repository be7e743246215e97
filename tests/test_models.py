"""Architectures fit any input or say why not, and are the nets that the papers describe."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from bench import models, rng
from bench.models import ModelError, build
from bench.surgery.layers import prunable


def weights_of(model):
    return sum(w.numel() for w in prunable(model).values())


def fresh(name, shape=(1, 8, 8), classes=10, seed=0):
    with rng.forked("test", seed):
        return build(name, shape, classes)


def test_names_are_found_without_loading_torch():
    code = (
        "import sys; from bench import models; n = models.names();"
        "assert {'lenet5', 'resnet8', 'lstm'} <= set(n); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SHAPES = ((1, 8, 8), (3, 17, 23))
CLASSIFIERS = [n for n in models.names() if models.task(n) == "classification"]
FITTING = [(n, s) for n in CLASSIFIERS for s in SHAPES if (n, s) != ("lenet5", (1, 8, 8))]


@pytest.mark.parametrize(("name", "shape"), FITTING, ids=str)
def test_every_net_fits_any_input_and_each_of_its_weights_learns(name, shape):
    torch.manual_seed(0)
    net = build(name, shape, 7)
    logits = net(torch.randn(4, *shape))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.arange(4)).backward()
    # in front of a batch norm the gradient of a bias is zero but for rounding
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in still if not (name == "sap_cnn" and n.endswith("bias"))] == []


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "timm:mixer_s32_224"]
)
def test_timm_nets_take_the_input_size_channels_and_classes_of_the_data(name):
    net = build(name, (1, 64, 64), 7).eval()
    assert net(torch.randn(2, 1, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet300", (1, 28, 28), 266_610),  # Han et al. 2015: 267 K
        ("lenet5", (1, 28, 28), 431_080),  # Han et al. 2015: 431 K
        # 269,722 and 853,018 of the CIFAR nets with option A, and two projections with batch norm
        ("resnet20", (3, 32, 32), 269_722 + 16 * 32 + 64 + 32 * 64 + 128),
        ("resnet56", (3, 32, 32), 853_018 + 16 * 32 + 64 + 32 * 64 + 128),
        ("resnet18", (3, 32, 32), 11_173_962),
        ("wrn28_8", (3, 32, 32), 23_354_842),  # Zagoruyko and Komodakis: 23.4 M
        (
            "vgg16_bn",
            (3, 32, 32),
            14_728_266 - 4_224,
        ),  # without the 4,224 biases in front of batch norm
    ],
)
def test_parameter_counts_are_the_published_ones(name, shape, parameters):
    assert sum(p.numel() for p in build(name, shape, 10).parameters()) == parameters


@pytest.mark.parametrize(("name", "weights"), [("sap_cnn", 1_555_136), ("sap_mlp", 428_544)])
def test_sap_nets_have_the_prunable_weights_of_the_paper(name, weights):
    assert weights_of(build(name, (3, 32, 32), 10)) == weights


def test_initialisation_is_kaiming_fan_out_with_zero_biases():
    net = fresh("sap_cnn", (3, 32, 32))
    for conv in (m for m in net if isinstance(m, torch.nn.Conv2d)):
        expected = (2 / (conv.out_channels * 9)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.06)
        assert not conv.bias.any()
    assert not net[-1].bias.any()
    bound = net[-1].in_features ** -0.5  # torch's default for linear weights is uniform in +- this
    assert 0.95 * bound < net[-1].weight.abs().max().item() <= bound


@pytest.mark.parametrize("name", ["resnet8", "lstm", "timm:resnet10t", "timm:vit_tiny_patch16_224"])
def test_initial_weights_depend_on_the_global_seed_alone(name):
    shape = (3, 32, 32)
    one, same, other = (fresh(name, shape, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_finding_out_whether_timm_takes_an_image_size_draws_no_random_numbers(monkeypatch):
    import timm

    create = timm.create_model

    def refusing_late(name, **options):
        if "img_size" in options:
            torch.rand(7)
            raise TypeError("unexpected keyword argument 'img_size'")
        return create(name, **options)

    with rng.forked("test", 0):
        theirs = create("resnet10t", num_classes=10).state_dict()
    monkeypatch.setattr(timm, "create_model", refusing_late)
    ours = fresh("timm:resnet10t", (3, 32, 32)).state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_resnet18_computes_what_torchvision_computes_with_the_small_stem():
    from torchvision.models import resnet18

    ours, theirs = build("resnet18", (3, 32, 32), 10).eval(), resnet18(num_classes=10).eval()
    theirs.conv1, theirs.maxpool = (
        torch.nn.Conv2d(3, 64, 3, padding=1, bias=False),
        torch.nn.Identity(),
    )
    state = ours.state_dict()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


def test_preactivation_identity_path_carries_the_stem_to_the_last_norm_unchanged():
    net = build("preact_resnet18", (3, 8, 8), 10).eval()
    blocks = [b for stage in net.stages for b in stage]
    for block in blocks:
        torch.nn.init.zeros_(block.conv2.weight)
    first = net.conv1(torch.randn(2, 3, 8, 8))
    assert torch.equal(net.stages[0](first), first)
    assert [b.shortcut is not None for b in blocks] == [False, False, *[True, False] * 3]


def test_lstm_reads_one_row_a_step_and_classifies_the_last_state():
    net, images = build("lstm", (2, 5, 6), 4), torch.randn(3, 2, 5, 6)
    cell = torch.nn.LSTMCell(12, 128)
    own = zip(cell.state_dict(), net.lstm.state_dict().values(), strict=True)
    cell.load_state_dict(dict(own))
    state = None
    for row in range(5):
        state = cell(torch.cat([images[:, 0, row], images[:, 1, row]], dim=1), state)
    torch.testing.assert_close(net(images), net.fc(state[0]))


def test_resnet8_learns_the_digits_within_three_epochs():
    from sklearn.datasets import load_digits

    digits = load_digits()
    mixed = torch.randperm(len(digits.target), generator=rng.generator("split"))
    images = torch.tensor(digits.images, dtype=torch.float32)[mixed, None] / 8 - 1
    labels = torch.tensor(digits.target)[mixed]
    net = fresh("resnet8")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3 * 28)
    orders = (torch.randperm(1400, generator=rng.generator("order", e)) for e in range(3))
    for batch in torch.cat(tuple(orders)).split(50):
        optimiser.zero_grad()
        F.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimiser.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        right = (net(images[1400:]).argmax(1) == labels[1400:]).double().mean()
    assert right > 0.95


@pytest.mark.parametrize(
    ("name", "shape", "classes", "reason"),
    [
        ("resnet9", (3, 32, 32), 10, "did you mean 'resnet8'"),
        ("resnet8", (3, 32), 10, "channels, height, width"),
        ("resnet8", (3, 0, 32), 10, "at least 1"),
        ("resnet8", (3, 32, 32), 1, "two classes or more"),
        ("lenet5", (1, 8, 8), 10, "at least 16x16 pixels, these are 8x8"),
        ("lenet5", (3, 15, 40), 10, "at least 16x16"),
        ("sap_cnn", (1, 7, 9), 10, "at least 8x8 pixels, these are 7x9"),
        ("timm:resnet51", (3, 32, 32), 10, "did you mean 'timm:resnet51q'"),
        ("timm:hf-hub:someone/net", (3, 32, 32), 10, "has no model"),
        ("timm:vit_tiny_patch16_224", (1, 8, 8), 10, r"\(1, 8, 8\)"),
        ("timm:vgg11", (3, 0, 8), 10, "at least 1"),
        ("timm:swin_tiny_patch4_window7_224", (3, 2, 2), 10, r"\(3, 2, 2\)"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(name, shape, classes, reason):
    with pytest.raises(ModelError, match=reason):
        build(name, shape, classes)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["resnet8", "timm:resnet10t"])
def test_weights_of_a_local_file_replace_all_initial_ones(tmp_path, name, suffix):
    donor, path = fresh(name, (3, 32, 32), seed=1), tmp_path / f"donor{suffix}"
    state = donor.state_dict()
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        save_file(state, path)
    loaded = build(name, (3, 32, 32), 10, weights=path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


def test_weights_of_another_net_are_refused_by_the_names_that_differ(tmp_path):
    path = tmp_path / "other.safetensors"
    state = fresh("resnet8", classes=12).state_dict()
    del state["conv1.weight"]
    save_file(state | {"surplus": torch.zeros(1)}, path)
    with pytest.raises(ModelError) as caught:
        build("resnet8", (1, 8, 8), 10, weights=path)
    for part in (
        "missing: conv1.weight",
        "unexpected: surplus",
        "fc.weight is (12, 64) instead of (10, 64)",
    ):
        assert part in str(caught.value)


class _Trap:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("content", ["trap", "garbage", "list", "absent"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_dictionary_of_tensors_is_refused_and_runs_nothing(
    tmp_path, capsys, suffix, content
):
    path = tmp_path / f"weights{suffix}"
    if content == "garbage":
        path.write_bytes(b"not weights at all")
    elif content != "absent":
        torch.save({"conv1.weight": _Trap()} if content == "trap" else [1, 2], path)
    with pytest.raises(ModelError, match=path.name):
        build("resnet8", (1, 8, 8), 10, weights=path)
    assert "unpickled" not in capsys.readouterr().out
