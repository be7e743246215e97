"""AD: widths, saturation, what becomes of the weights, stages and their cost."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from bench import data, models
from bench.measure import macs
from bench.method import MethodError, make
from bench.spec import Recipe, RunSpec
from bench.stages import Stage, complexity
from bench.surgery import channels, removal, store
from bench.surgery.activations import Activity
from bench.surgery.bypass import bypass
from bench.surgery.channels import SurgeryError
from bench.trainer import Trainer
from methods.activation_density import width

IMAGE = (3, 32, 32)


def net(arch: str, shape=IMAGE, classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(arch, shape, classes)


@pytest.mark.parametrize(
    ("arch", "side", "layers", "relus"),
    [("vgg19_bn", 8, 16, 16), ("timm:resnet18", 32, 12, 17)],
)
def test_widths_made_up_for_two_stages_give_nets_that_run(arch, side, layers, relus):
    shape = (3, side, side)
    model = net(arch, shape)
    for density in (0.27, 0.41):
        activity = Activity(model, shape)
        assert (len(activity.groups), len(activity.codes)) == (layers, relus)
        counts = {g.name: width(density, g.size) for g in activity.groups}
        keep = {g.name: torch.arange(g.size) < counts[g.name] for g in activity.groups}
        before, model = model, channels.shrink(model, shape, keep)
        assert sum(macs(model, shape).values()) < 0.3 * sum(macs(before, shape).values())
    assert {g.name: g.size for g in channels.groups(model, shape)} == counts
    assert models.reinitialise(model, arch)(torch.randn(2, *shape)).shape == (2, 10)


def test_a_layer_keeps_the_channels_that_its_density_says_and_one_at_least():
    assert [width(d, 10) for d in (0.0, 0.04, 0.25, 0.35, 0.449, 1.0)] == [1, 1, 3, 4, 4, 10]
    assert width(0.5, 5) == 3  # a half goes up; Python's own rounding would give 2
    assert [width(0.27, c) for c in (64, 17)] == [17, 5]


def test_a_density_is_saturated_when_every_layer_was_level_for_the_window():
    method = make("activation_density", {"window": 3, "least": 5, "most": 9, "eps": 0.02})
    fall = [0.5, 0.4, 0.32, 0.3, 0.295, 0.29]
    still = [0.6] * 6

    def series(n: int, *layers: list[float]) -> list[dict[str, float]]:
        return [{str(i): layer[t] for i, layer in enumerate(layers)} for t in range(n)]

    assert not method.saturated(series(4, still))  # level, but too early
    assert method.saturated(series(5, still))
    assert not method.saturated(series(5, still, fall))  # 0.32 to 0.295
    assert method.saturated(series(6, still, fall))


@pytest.mark.parametrize("arch", ["resnet20", "lenet5", "timm:resnet18"])
def test_weights_drawn_anew_have_the_variance_of_a_fresh_net_of_that_size(arch):
    shape = (1, 28, 28) if arch == "lenet5" else IMAGE
    model = net(arch, shape)
    keep = {g.name: torch.arange(g.size) < g.size // 2 for g in channels.groups(model, shape)}
    smaller = channels.shrink(model, shape, keep)
    with torch.no_grad():
        for tensor in removal.tensors(smaller).values():
            tensor.fill_(9)
    torch.manual_seed(1)
    models.reinitialise(smaller, arch)
    fresh = removal.tensors(model)
    for name, tensor in removal.tensors(smaller).items():
        tensor = tensor.detach()
        if tensor.dim() == 4:  # Kaiming's rule: variance 2 / fan-out
            fan = tensor.shape[0] * tensor[0, 0].numel()
            assert float(tensor.var() * fan / 2) == pytest.approx(1, rel=0.2), name
        elif tensor.dim() == 2:  # torch's: uniform, variance 1 / (3 fan-in)
            assert float(tensor.var() * tensor.shape[1] * 3) == pytest.approx(1, rel=0.2)
        elif "fc.bias" not in name:  # torch draws timm's classifier bias
            assert float(tensor.float().mean()) == float(fresh[name].detach().float().mean()), name


def test_training_costs_less_than_the_dense_run_when_widths_fall_and_epochs_are_equal():
    assert complexity([(2, 100), (8, 10)], 10) == pytest.approx((2 * 100 + 8 * 10) / 1000)
    assert complexity([(10, 100)], 10) == 1
    for first, second in itertools.product((1, 4, 9), (1, 50, 99)):
        assert complexity([(first, 100), (10 - first, second)], 10) < 1
    assert complexity([(1, 5)], 0) is None


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def run(digits, arch="sap_mlp", epochs=8.0, tier="equal", **params):
    """The points of a run on digits, its stages and all its lines."""
    recipe = Recipe(epochs=epochs / 2, lr=0.1, batch_size=64)
    spec = RunSpec(
        method="activation_density", arch=arch, dataset="digits", tier=tier, train=recipe,
        finetune=recipe,
    )  # fmt: skip
    lines: list[dict] = []
    model = net(arch, digits.shape, digits.classes)
    budget = epochs if tier == "equal" else float("inf")
    device = torch.device("cpu")
    trainer = Trainer(spec, digits, device, lambda: copy.deepcopy(model), budget, lines.append)
    method = make("activation_density", {"drop": 1.0, **params})
    points = [copy.deepcopy(p) for p in method.compress(copy.deepcopy(model), trainer)]
    return points, [x for x in lines if x["event"] == "stage"], lines, trainer


def test_parameters_multiply_adds_and_time_fall_from_stage_to_stage(digits):
    points, stages, lines, trainer = run(digits, "sap_cnn", 4.0, stages=2)
    assert len(points) == len(stages) == 3
    for name in ("parameters", "macs"):
        values = [stage[name] for stage in stages]
        assert values == sorted(set(values), reverse=True), name
    assert stages[-1]["seconds"] < stages[0]["seconds"]
    assert trainer.epochs_spent == pytest.approx(4.0, abs=0.06)
    assert sum(s["epochs"] for s in stages) == pytest.approx(trainer.epochs_spent, abs=1e-3)
    assert stages[-1]["epochs"] >= 2  # what is reserved for the last training
    work = [(s["epochs"], s["macs"]) for s in stages]
    assert stages[-1]["complexity"] == pytest.approx(complexity(work, 2.0), rel=1e-3)
    read = [x for x in lines if x["event"] == "activation_density"]
    for stage in stages:
        own = [x for x in read if x["stage"] == stage["stage"]]
        assert {x["layer"]: x["width"] for x in own} == stage["widths"]
        assert all(0 <= x["density"] <= 1 for x in own)
    assert len(read) <= 4 * (4 + len(stages))  # a line per layer and epoch, and per stage


def test_the_widths_of_a_stage_are_the_densities_of_the_one_before(digits):
    # a reading per stage and epoch: what is logged is then what is used
    _, stages, lines, _ = run(
        digits, epochs=4, tier="paper", stages=2, window=2, least=2, most=2, eps=1e-9
    )
    assert [s["ended"] for s in stages[:2]] == ["most", "most"]
    assert [s["epochs"] for s in stages] == [2, 2, 2]  # the last: the dense run's schedule
    for before, after in itertools.pairwise(stages):
        for layer, size in before["widths"].items():
            own = [
                x["density"]
                for x in lines
                if x["event"] == "activation_density"
                and (x["stage"], x["layer"]) == (before["stage"], layer)
            ]
            assert after["widths"][layer] == width(sum(own) / 2, size)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_stages_of_uneven_steps_spend_the_budget_and_no_more(digits, stages):
    _, told, _, trainer = run(digits, epochs=2.35, stages=stages, eps=1e-9)
    assert {s["ended"] for s in told[:-1]} <= {"most"}
    assert trainer.epochs_spent == pytest.approx(trainer.budget, abs=0.06)


def first_stage(method, model, digits, arch="sap_mlp") -> tuple[Stage, list[dict]]:
    recipe, lines = Recipe(epochs=2), []
    spec = RunSpec(
        method="activation_density", arch=arch, dataset="digits", train=recipe, finetune=recipe
    )
    trainer = Trainer(spec, digits, torch.device("cpu"), lambda: model, 4.0, lines.append)
    return Stage(model, trainer, 1, method.combined), lines


def test_inherited_channels_are_the_densest_and_fresh_ones_are_drawn(digits):
    model = net("sap_mlp", digits.shape)
    one, two = (torch.rand(n, generator=torch.Generator().manual_seed(n)) for n in (128, 256))
    density = {"1.weight": one.double(), "3.weight": two.double()}
    keep = [d.topk(width(float(d.mean()), len(d))).indices.sort().values for d in (one, two)]
    nets = {}
    for weights in ("inherit", "fresh"):
        method = make("activation_density", {"weights": weights})
        nets[weights] = method.narrow(first_stage(method, model, digits)[0], density)
    inherited, fresh = nets["inherit"], nets["fresh"]
    assert torch.equal(inherited[1].weight, model[1].weight[keep[0]])
    assert torch.equal(inherited[3].weight, model[3].weight[keep[1]][:, keep[0]])
    assert torch.equal(inherited[5].weight, model[5].weight[:, keep[1]])
    assert fresh[3].weight.shape == inherited[3].weight.shape
    assert not torch.allclose(fresh[3].weight, inherited[3].weight, atol=0.01)


def test_of_several_relus_the_mean_counts_or_the_densest():
    reading = torch.tensor([[0.2, 0.4], [0.9, 0.1]])
    mean, densest = (make("activation_density", {"blocks": b}) for b in ("mean", "max"))
    assert torch.allclose(mean.combined(reading), torch.tensor([0.55, 0.25]))
    assert torch.equal(densest.combined(reading), torch.tensor([0.9, 0.1]))


def test_widths_that_settle_or_accuracy_that_falls_end_the_pruning(digits):
    points, stages, _, trainer = run(digits, epochs=3, settled=0.99)
    assert len(points) == 1
    assert stages[0]["ended"].endswith("settled")
    assert trainer.epochs_spent == pytest.approx(3, abs=0.06)  # and that net had it all
    harsh = {"drop": 0.0, "stages": 6, "reserve": 0.2}
    points, stages, _, trainer = run(digits, epochs=3, **harsh)
    assert 1 < len(points) < 7
    assert stages[-1]["ended"].endswith("drop")
    assert trainer.epochs_spent == pytest.approx(3, abs=0.06)


def test_a_net_without_relus_or_compiled_is_refused_with_the_reason(digits):
    with pytest.raises(SurgeryError, match="RowLSTM has no removable channels with a ReLU"):
        run(digits, "lstm")
    method = make("activation_density", {})
    model = net("sap_mlp", digits.shape)
    trainer = first_stage(method, model, digits)[0].trainer
    recipe = Recipe(epochs=2, compile=True)
    trainer.spec = trainer.spec.model_copy(update={"finetune": recipe})
    with pytest.raises(SurgeryError, match="compiled"):
        next(method.compress(model, trainer))


def test_a_layer_of_one_channel_goes_from_a_plain_chain_and_the_net_can_be_stored(digits, tmp_path):
    method = make("activation_density", {"remove_layers": True})
    model = net("sap_cnn", digits.shape)
    stage, lines = first_stage(method, model, digits, "sap_cnn")
    thin = {"4.weight": 0.004, "12.weight": 0.001}
    groups = stage.activity.groups
    smaller = method.narrow(
        stage, {g.name: torch.full((g.size,), thin.get(g.name, 0.1)) for g in groups}
    )
    assert [x["layer"] for x in lines if x["outcome"] == "removed"] == list(thin)
    assert all(isinstance(smaller[i], nn.Identity) for i in (4, 5, 6, 12, 13, 14))
    assert (smaller[8].in_channels, smaller[-1].in_features) == (6, 26)
    after = Stage(smaller, stage.trainer, 1, method.combined, stage)
    assert after.widths == {"0.weight": 6, "4.weight": 0, "8.weight": 26, "12.weight": 0}
    store.save(smaller, tmp_path, "sap_cnn", digits.shape, digits.classes)
    assert store.digest(store.load(tmp_path)) == store.digest(smaller)


def test_a_layer_that_is_added_or_strided_stays():
    resnet = net("resnet8")
    with pytest.raises(SurgeryError, match="plain chain"):
        bypass(resnet, IMAGE, "stages.0.0.conv1.weight")
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
    with pytest.raises(SurgeryError, match="size of the image"):
        bypass(chain, IMAGE, "0.weight")
    with pytest.raises(SurgeryError, match="no reader"):
        bypass(chain, IMAGE, "2.weight")


def test_a_norm_behind_the_relu_is_refused_before_anything_changes():
    chain = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 3)
    )
    before = [type(layer) for layer in chain]
    with pytest.raises(SurgeryError, match="does not follow it directly"):
        bypass(chain, IMAGE, "0.weight")
    assert [type(layer) for layer in chain] == before


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(MethodError, match="most 4 must reach"):
        make("activation_density", {"most": 4})
    with pytest.raises(MethodError, match="remove_layers needs"):
        make("activation_density", {"remove_layers": True, "weights": "inherit"})
