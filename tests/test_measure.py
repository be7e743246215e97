"""Multiply-adds, bits and accuracy, each against an independent count or a published number."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.measure import accuracy, bits, count, macs, model_bits, worst_class_drop
from bench.measure.accuracy import calibration_error
from bench.models import build, names, task
from bench.surgery.layers import prunable

STAGE = 6 * 16 * 16 * 9 * 1024  # six convolutions of ResNet-20's first stage
LATER = 16 * 32 * 9 * 256 + 5 * 32 * 32 * 9 * 256  # those of its second; of its third as many
OPTION_B = 16 * 32 * 256 + 32 * 64 * 64  # its two projections
ROW = 4 * 128 * (28 + 128)  # one step of the LSTM

GOLDEN = [  # counted by hand from the definitions of the nets
    ("lenet300", (1, 28, 28), 784 * 300 + 300 * 100 + 100 * 10),
    ("lenet5", (1, 28, 28), 20 * 25 * 576 + 50 * 500 * 64 + 800 * 500 + 5000),  # 2.293 M
    ("sap_linear", (3, 32, 32), 30_720),
    ("sap_mlp", (3, 32, 32), 428_544),
    ("sap_cnn", (3, 32, 32), 1728 * 1024 + 73_728 * 256 + 294_912 * 64 + 1_179_648 * 16 + 5120),
    ("resnet20", (3, 32, 32), 432 * 1024 + STAGE + 2 * LATER + 640 + OPTION_B),
    ("lstm", (1, 28, 28), 28 * ROW + 128 * 10),
    ("vgg16_bn", (3, 32, 32), 313_196_544 + 5120),
]
PUBLISHED = [  # G; another counter on the same nets
    ("timm:resnet18", 1.814),
    ("timm:resnet50", 4.089),
    ("timm:mobilenetv2_100", 0.301),
    ("timm:resnext50_32x4d", 4.230),
    ("timm:convnext_tiny", 4.456),
]


@pytest.mark.parametrize(("name", "shape", "expected"), GOLDEN, ids=lambda v: str(v))
def test_multiply_adds_are_those_counted_by_hand(name, shape, expected):
    assert sum(macs(build(name, shape, 10), shape).values()) == expected


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet20", 40.55),
        ("resnet56", 125.49),
        ("vgg16_bn", 313.2),
        ("wrn28_8", 3360),
        ("resnet18", 555.4),
    ],
)
def test_multiply_adds_of_the_cifar_nets_are_the_published_ones(name, published):
    option = OPTION_B if name in ("resnet20", "resnet56") else 0
    total = sum(macs(build(name, (3, 32, 32), 10), (3, 32, 32)).values())
    assert (total - option) / 1e6 == pytest.approx(published, rel=5e-4)


@pytest.mark.parametrize(("name", "published"), PUBLISHED)
def test_multiply_adds_of_the_imagenet_nets_are_the_published_ones(name, published):
    net = build(name, (3, 224, 224), 1000)
    assert round(sum(macs(net, (3, 224, 224)).values()) / 1e9, 3) == published


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_attention_products_of_a_vision_transformer_are_counted(library):
    if library == "timm":
        net = build("timm:vit_base_patch16_224", (3, 224, 224), 1000)
    else:
        from torchvision.models import vit_b_16

        net = vit_b_16().eval()  # nn.MultiheadAttention, whose fast path hides everything
    found = macs(net, (3, 224, 224))
    products = sum(n for key, n in found.items() if key.endswith(".attention"))
    tokens, width, layers = 197, 768, 12
    assert products == layers * 2 * tokens**2 * width
    weights = layers * 12 * width**2 * tokens + width**2 * 196 + width * 1000
    assert sum(found.values()) - products == weights
    assert round(weights / 1e9, 2) == 16.85  # the whole by a counter that misses the products


@pytest.mark.parametrize("name", [n for n in names() if n not in ("lstm", "wrn28_8")])
def test_multiply_adds_are_half_of_the_operations_of_torchs_counter(name):
    net = build(name, (3, 32, 32), 1 if task(name) == "field" else 10).eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 3, 32, 32))
    assert 2 * sum(macs(net, (3, 32, 32)).values()) == counter.get_total_flops()


@settings(max_examples=40, deadline=None)
@given(
    dims=st.integers(1, 3),
    groups=st.integers(1, 3),
    width=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    transposed=st.booleans(),
)
def test_multiply_adds_of_any_convolution_are_the_sum_of_its_response_to_ones(
    dims, groups, width, kernel, stride, dilation, transposed
):
    """With weights and data of one and no padding, each multiply-add adds one to the output."""
    kind = (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        if transposed
        else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    )[dims - 1]
    channels = groups * width[0]
    layer = kind(
        channels, groups * width[1], kernel, stride, dilation=dilation, groups=groups, bias=False
    )
    nn.init.ones_(layer.weight)
    shape = (channels, *(6, 5, 7)[:dims])
    assert macs(layer, shape) == {"weight": int(layer(torch.ones(1, *shape)).sum())}


def test_a_linear_layer_counts_once_for_every_position_of_its_input():
    assert macs(nn.Linear(5, 7), (11, 5)) == {"weight": 5 * 7 * 11}
    assert macs(nn.Linear(5, 7, bias=False), (3, 11, 5)) == {"weight": 5 * 7 * 33}


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
def test_recurrent_weights_count_once_for_every_step(kind, gates, both):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(6, 5, num_layers=2, bidirectional=both, batch_first=True)

        def forward(self, x):
            return self.cell(x)[0]

    found = macs(Reader(), (9, 6))
    second = 10 if both else 5
    expected = {"cell.weight_ih_l0": 6, "cell.weight_hh_l0": 5, "cell.weight_ih_l1": second}
    expected["cell.weight_hh_l1"] = 5
    if both:
        expected |= {f"{k}_reverse": v for k, v in expected.items()}
    assert found == {k: gates * 5 * columns * 9 for k, columns in expected.items()}


@pytest.mark.parametrize("how", ["fused", "matmul", "einsum"])
@pytest.mark.parametrize("training", [False, True])
def test_attention_counts_the_same_however_it_is_written(how, training):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            if how == "fused":
                return F.scaled_dot_product_attention(q, k, v)
            if how == "matmul":
                return (q @ k.mT).softmax(-1) @ v
            return torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k), v)

    found = macs(nn.Sequential(Attention()).train(training), (5, 8))
    assert found == {"0.qkv.weight": 5 * 8 * 24, "0.attention": 2 * 2 * 5 * 5 * 4}


def test_a_transformer_layer_is_counted_in_eval_mode_where_its_fast_path_is_one_operator():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    found = macs(layer, (7, 16))
    assert found == {
        "self_attn.in_proj_weight": 7 * 16 * 48,
        "self_attn.out_proj.weight": 7 * 16 * 16,
        "self_attn.attention": 2 * 7 * 7 * 16,
        "linear1.weight": 7 * 16 * 32,
        "linear2.weight": 7 * 16 * 32,
    }


def test_every_prunable_weight_has_a_count_that_its_size_divides():
    for name in ("resnet8", "sap_cnn", "lstm"):
        net = build(name, (1, 8, 8), 10)
        found = macs(net, (1, 8, 8))
        assert list(found) == list(prunable(net))
        assert all(found[k] > 0 and found[k] % w.numel() == 0 for k, w in prunable(net).items())


def test_unused_transformed_and_tied_weights_keep_their_own_count():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.first, self.tied = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.tied.weight = self.first.weight
            self.standardised = Standardised(4, 4, 1)

        def forward(self, x):
            return self.standardised(self.tied(self.first(x))[..., None])

    class Standardised(nn.Conv1d):
        def forward(self, x):
            return F.conv1d(x, self.weight - self.weight.mean(), self.bias)

    found = macs(Odd(), (4,))
    assert found["unused.weight"] == 0
    assert found["first.weight"] + found["tied.weight"] == 32
    assert found["standardised.weight"] == 16
    assert sum(found.values()) == 48


def test_counting_leaves_the_net_and_the_random_state_as_they_were():
    net = build("resnet8", (1, 8, 8), 10).train()
    net.bn1.eval()
    nets = [net, build("lstm", (1, 8, 8), 10)]
    for model in nets:
        before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
        state = torch.get_rng_state()
        macs(model, (1, 8, 8))
        assert torch.equal(state, torch.get_rng_state())
        assert modes == [m.training for m in model.modules()]
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert model(torch.randn(2, 1, 8, 8)).device.type == "cpu"


def test_a_net_whose_products_cannot_be_seen_or_that_cannot_run_is_refused():
    class Twice(nn.Bilinear):
        def forward(self, x):
            return super().forward(x, x)

    with pytest.raises(ValueError, match="_trilinear hides its products"):
        macs(Twice(3, 3, 2), (3,))
    with pytest.raises(ValueError, match=r"cannot count .* Linear for an input of \(4,\)"):
        macs(nn.Linear(3, 2), (4,))


def test_bits_of_a_matrix_worked_out_by_hand():
    weight = torch.zeros(4, 5)
    weight[0, 0], weight[2, 3], weight[2, 4] = 0.7132, -1.0514, 0.3377
    assert bits(weight) == {"dense": 640, "csr": 3 * (32 + 3) + 5 * 32, "bitmap": 3 * 32 + 20}
    assert bits(weight.bfloat16()) == {
        "dense": 320,
        "csr": 3 * (16 + 3) + 5 * 32,
        "bitmap": 3 * 16 + 20,
    }


def test_bits_of_quantised_values_worked_out_by_hand():
    """Levels -3 ... 3 of step 0.2 need 3 bits; without zero there are six, which need 3, too."""
    weight = torch.zeros(4, 5)
    weight[0, 0], weight[2, 3], weight[2, 4] = 0.2, -0.6, 0.4
    assert bits(weight) == {
        "dense": 20 * 3 + 32,
        "csr": 3 * (3 + 3) + 5 * 32 + 32,
        "bitmap": 3 * 3 + 20 + 32,
    }
    signs = torch.where(torch.rand(4, 5) < 0.5, -0.3, 0.3)
    assert bits(signs)["dense"] == 20 + 32


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 40),
    kernel=st.integers(1, 3),
    density=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_bits_are_those_of_the_arrays_that_each_format_stores(rows, columns, kernel, density, seed):
    from scipy.sparse import csr_matrix

    draw = torch.rand(rows, columns, kernel, generator=torch.Generator().manual_seed(seed))
    weight = draw * (draw < density)
    stored = csr_matrix(weight.flatten(1).numpy())
    index = max(1, math.ceil(math.log2(columns * kernel)))
    assert bits(weight) == {
        "dense": weight.numel() * 32,
        "csr": len(stored.data) * 32 + len(stored.indices) * index + len(stored.indptr) * 32,
        "bitmap": len(stored.data) * 32 + weight.numel(),
    }


def test_a_model_takes_the_smallest_format_of_each_weight_and_keeps_the_rest_dense():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 10))
    with torch.no_grad():
        net[3].weight[:, 1:] = 0
        net[1].weight[:4] = 0
    total, formats = model_bits(net)
    rest = 32 * (8 + 8 + 8 + 8 + 8 + 10)  # biases, batch norm with its mean and variance
    sizes = [bits(net[0].weight), bits(net[3].weight)]
    assert total == rest + sizes[0]["dense"] + sizes[1]["csr"]
    assert formats == {f: rest + sizes[0][f] + sizes[1][f] for f in ("dense", "csr", "bitmap")}


def test_size_of_a_dense_net_is_that_of_its_file_and_a_tied_weight_counts_once():
    net = build("lenet300", (1, 8, 8), 10)
    assert model_bits(net)[1]["dense"] == 32 * 50_610
    assert count(net) == (50_610, 50_610 - 410)  # biases start at zero
    one = nn.Linear(6, 6, bias=False)
    two = nn.Linear(6, 6, bias=False)
    two.weight = one.weight
    assert model_bits(nn.Sequential(one, two)) == model_bits(one)
    assert count(nn.Sequential(one, two)) == (36, 36)


class ArraySplit:
    """Images and labels in memory, handed out like a split of the data package."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def batches(self, batch_size, order=None, drop_last=False):
        for start in range(0, len(self), batch_size):
            yield self.images[start : start + batch_size], self.labels[start : start + batch_size]


def labelled(labels, classes):
    """A split whose image i is the one-hot vector of a class; a linear layer can read it off."""
    labels = torch.as_tensor(labels)
    return ArraySplit(F.one_hot(labels, classes).to(torch.uint8)[:, :, None, None], labels)


def reader(classes, scale=20.0):
    net = nn.Sequential(nn.Flatten(), nn.Linear(classes, classes, bias=False))
    net[1].weight.data = scale * torch.eye(classes)
    return net


def noisy(samples=1003, classes=10):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (samples, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    torch.manual_seed(0)
    return ArraySplit(images, labels), nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def scaled(images):
    return images.float() / 255


@pytest.mark.parametrize("batch_size", [1, 128, 256, 10_000])
def test_a_perfect_classifier_scores_exactly_one_at_any_batch_size(batch_size):
    samples = 10_000 if batch_size > 1 else 500
    split = labelled(torch.arange(samples) % 10, 10)
    found = accuracy(reader(10), split, torch.Tensor.float, batch_size=batch_size)
    assert (found.top1, found.top5, found.samples) == (1.0, 1.0, samples)
    assert found.per_class == (1.0,) * 10
    assert found.ece == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("batch_size", [7, 128, 2000])
def test_accuracy_loss_and_top5_are_those_of_scikit_learn_over_a_short_last_batch(batch_size):
    from sklearn.metrics import log_loss, recall_score, top_k_accuracy_score

    split, net = noisy()
    found = accuracy(net, split, scaled, batch_size=batch_size)
    logits = net(scaled(split.images)).detach().double()
    probabilities, labels = logits.softmax(1).numpy(), split.labels.numpy()
    assert found.top1 == top_k_accuracy_score(labels, probabilities, k=1)
    assert found.top5 == top_k_accuracy_score(labels, probabilities, k=5)
    assert found.loss == pytest.approx(log_loss(labels, probabilities), rel=1e-5)
    recall = recall_score(labels, logits.argmax(1).numpy(), average=None)
    assert found.per_class == pytest.approx(tuple(recall))


def test_calibration_error_worked_out_by_hand():
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.95, 0.30, 0.30, 1.0, 1 / 30])
    correct = torch.tensor([1, 1, 1, 0, 0, 0, 1, 0])
    # top bin: 4 x 0.95 and 1.0 against 4 right; bin of 0.30: none right; bin of 1/30: not right
    expected = (abs(4 - 4 * 0.95 - 1.0) + 2 * 0.30 + 1 / 30) / 8
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(
        torch.full((8,), 0.75), torch.tensor([1, 1, 1, 0] * 2)
    ) == pytest.approx(0)


def test_a_confidence_on_a_bins_upper_edge_belongs_to_that_bin():
    confidence, correct = torch.tensor([0.5, 0.4]), torch.tensor([1, 0])
    assert calibration_error(confidence, correct, bins=2) == pytest.approx(
        abs(1 - 0.9) / 2, abs=1e-6
    )


@pytest.mark.parametrize(("classes", "expected"), [(2, None), (5, None), (6, 1.0)])
def test_top5_exists_only_above_five_classes(classes, expected):
    found = accuracy(reader(classes), labelled([0, 1, 1], classes), torch.Tensor.float)
    assert found.top5 == expected


def test_a_class_without_samples_has_no_accuracy_and_cannot_be_the_worst():
    dense = accuracy(reader(4), labelled([0, 0, 1, 3], 4), torch.Tensor.float)
    blind = reader(4)
    blind[1].weight.data[1] = -20.0
    pruned = accuracy(blind, labelled([0, 0, 1, 3], 4), torch.Tensor.float)
    assert dense.per_class[:2] == (1.0, 1.0)
    assert math.isnan(dense.per_class[2])
    assert worst_class_drop(dense, pruned) == 1.0
    assert worst_class_drop(dense, dense) == 0.0


def test_measuring_runs_in_eval_mode_and_gives_every_module_its_own_mode_back():
    split, net = noisy(200)
    net = nn.Sequential(net[0], nn.BatchNorm1d(16), nn.Dropout(0.5), net[1]).train()
    net[2].eval()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    first, again = (accuracy(net, split, scaled, batch_size=16) for _ in range(2))
    assert first == again
    assert modes == [m.training for m in net.modules()]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_bf16_is_used_where_asked_for_and_nearly_agrees():
    split, net = noisy()
    seen = []
    net[1].register_forward_hook(lambda *a: seen.append(a[2].dtype))
    fp32, bf16 = (accuracy(net, split, scaled, precision=p) for p in ("fp32", "bf16"))
    assert set(seen) == {torch.float32, torch.bfloat16}
    assert bf16.loss == pytest.approx(fp32.loss, rel=1e-2)
    assert bf16.loss != fp32.loss


def test_what_has_no_accuracy_is_refused_with_the_reason():
    split, net = noisy(10)
    with pytest.raises(ValueError, match="empty split"):
        accuracy(net, ArraySplit(split.images[:0], split.labels[:0]), scaled)
    with pytest.raises(ValueError, match="a label is 11, but the model has 10 classes"):
        accuracy(net, ArraySplit(split.images, split.labels.fill_(11)), scaled)
    with pytest.raises(ValueError, match="'fp64'"):
        accuracy(net, split, scaled, precision="fp64")
    net[1].weight.data[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="10 of 10 samples are not finite"):
        accuracy(net, ArraySplit(split.images, split.labels.fill_(1)), scaled)
