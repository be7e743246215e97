"""Campaigns: the layers of a net, the floor of each, and untrained nets through the protocol."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from bench import kernels, models
from bench.__main__ import main
from bench.latency import baseline, machine
from bench.latency import table as latency_table
from bench.latency.fold import fold
from bench.latency.prepare import Cell
from bench.measure import macs
from bench.method import make
from bench.speed import figures, run
from bench.speed.campaign import FOLDER, Campaign, Subject, read, subjects
from bench.speed.roofline import Ceilings, ceilings, floor, places, work
from bench.speed.roofline import read as read_inputs
from bench.speed.rows import crossover, crossovers, lost_in_layers, tidy
from bench.speed.shapes import LayerShape, shapes
from bench.speed.still import left_by, settled
from bench.speed.table import layers, nets, write
from bench.speed.tune import wanted
from bench.suite import ConfigError
from bench.surgery import prunable
from bench.surgery.patterns import Pattern
from bench.tables.render import markdown

IMAGE, CHANNEL = (3, 32, 32), "random(pattern=channel)"
LATENCY = {
    "devices": ["cpu"],
    "dtypes": ["fp32"],
    "batch_sizes": [1],
    "threads": [1],
    "seconds_per_cell": 0.01,
    "paths": ["dense", "masked_dense", "embedding_bag"],
}
CAMPAIGN = Campaign.model_validate(
    {
        "campaign": "try",
        "image": IMAGE,
        "layers": {
            "of": ["resnet8", "resnet20"],
            "versions": {"random": [{}]},
            "densities": [0.5, 0.1],
            "latency": LATENCY,
        },
        "nets": {
            "of": ["resnet8"],
            "versions": {"random": [{}, {"pattern": "channel"}], "tensor_cnn": [{}]},
            "densities": [0.6, 0.2],
            "latency": LATENCY,
        },
    }
)


@pytest.mark.parametrize("arch", ["resnet8", "vgg16_bn", "timm:mobilenetv2_050", "timm:levit_128s"])
def test_the_layers_of_a_net_are_all_of_its_work(arch):
    """Each with its own shape and count: their multiply-adds add up to those that are measured."""
    shape = (3, 224, 224) if "levit" in arch else IMAGE
    net = models.build(arch, shape, 10).eval()
    found = shapes(net, shape)
    kinds = {n for n, m in net.named_modules() if type(m) in (nn.Linear, nn.Conv2d)}
    measured = sum(v for n, v in macs(net, shape).items() if n.rpartition(".")[0] in kinds)
    assert sum(count * work(layer, 1)[0] for layer, count in found.items()) == measured
    assert len({layer.name for layer in found}) == len(found)


def test_a_layer_shape_builds_that_layer():
    net = models.build("timm:mobilenetv2_050", (3, 64, 64), 10).eval()
    for layer in shapes(net, (3, 64, 64)):
        x = torch.randn(2, *layer.inputs)
        with torch.no_grad():
            y = layer.build()(x)
        assert y[0].numel() == layer.outputs * places(layer)
        assert layer.build().weight.numel() == work(layer, 1)[1]


def test_a_floor_is_arithmetic_or_traffic_whichever_takes_longer():
    """A 3x3 layer, 64 channels in and out, on 56 x 56: counted by hand."""
    layer = LayerShape((64, 56, 56), 64, ((3, 3), (1, 1), (1, 1), (1, 1)), 1, True)
    assert layer.name == "conv3x3-64-64-56"
    cell = Cell("cpu", "fp32", 2, 1)
    done = 2 * 56 * 56 * 64 * 64 * 9
    assert work(layer, 2) == (done, 64 * 64 * 9)
    moved = 4 * (2 * 2 * 64 * 56 * 56 + 64 * 64 * 9)
    assert read_inputs(layer) == 64 * 56 * 56
    slow_arithmetic = floor(layer, cell, 1.0, Ceilings(1e9, 1e12))
    assert slow_arithmetic.bound == "compute"
    assert slow_arithmetic.ms == pytest.approx(1e3 * 2 * done / 1e9)
    slow_memory = floor(layer, cell, 1.0, Ceilings(1e15, 1e9))
    assert slow_memory.bound == "memory"
    assert slow_memory.ms == pytest.approx(1e3 * moved / 1e9)
    pruned = floor(layer, cell, 0.1, Ceilings(1e15, 1e9))
    weights = 64 * 64 * 9  # a tenth of them, and a bit for each place
    bits = weights / 8
    assert pruned.ms == pytest.approx(1e-6 * (4 * 2 * 2 * 64 * 56 * 56 + 0.4 * weights + bits))
    strided = LayerShape((256, 56, 56), 512, ((1, 1), (2, 2), (0, 0), (1, 1)), 1, True)
    assert read_inputs(strided) == 256 * 28 * 28  # three of four are never read


def test_a_net_is_settled_before_it_is_timed():
    """No layer is all zeros once its norm is folded into it, and what comes out depends on it."""
    subject = subjects(CAMPAIGN)["resnet8"]
    for label in ("dense", "random@0.2", f"{CHANNEL}@0.2"):
        net = subject.loader()(Path(label))
        assert not net.training
        folded, _ = fold(copy.deepcopy(net))
        for weight in prunable(folded).values():
            assert weight.count_nonzero() > 0
        with torch.no_grad():
            a, b = folded(torch.randn(2, *IMAGE)), folded(torch.randn(2, *IMAGE))
        assert float((a - b).norm() / a.norm()) > 0.1
    started = models.build("timm:resnet18", IMAGE, 10)
    assert not started.layer1[0].bn2.weight.any()  # shut, as timm begins
    assert settled(started, IMAGE).layer1[0].bn2.weight.all()


def test_what_was_never_steady_is_named(folder):
    table = tidy(folder)
    table.loc[(table["role"] == "twin"), "status"] = "unsteady"
    assert "| conv3x3-16-16-32 | unsteady |" in markdown(layers(table))
    assert "resnet8: dense unsteady" in markdown(nets(table))


def test_a_path_that_was_never_steady_is_named_beside_the_fastest_that_was(folder):
    table = tidy(folder)
    own = (table["path"] == "embedding_bag") & (table["role"] == "candidate")
    assert "unsteady:" not in "".join(line for line in shown(table) if line.startswith("| "))
    table.loc[own, "status"] = "unsteady"
    rows = [line for line in shown(table) if "unsteady: embedding_bag |" in line]
    assert len(rows) >= 2
    table.loc[table["role"] == "candidate", "status"] = "unsteady"
    assert any(re.search(r"\| unsteady: [a-z_, ]+ \|", line) for line in shown(table))


def shown(table):
    return (markdown(layers(table)) + markdown(nets(table))).splitlines()


def test_ceilings_are_of_this_world(monkeypatch):
    monkeypatch.setattr("bench.speed.roofline.SIDE", {"cpu": 512})
    monkeypatch.setattr("bench.speed.roofline.COPIED", {"cpu": 2**24})
    found = ceilings(Cell("cpu", "fp32", 1, 1))
    assert 1e8 < found.flops < 1e14
    assert 1e8 < found.bandwidth < 1e13


def test_layers_that_two_nets_share_are_one_subject():
    found = subjects(CAMPAIGN)
    layers = [name for name, subject in found.items() if subject.kind == "layers"]
    own = [shapes(models.build(net, IMAGE, 1000), IMAGE) for net in ("resnet8", "resnet20")]
    assert set(layers) == {layer.name for net in own for layer in net}
    assert len(layers) < sum(map(len, own))
    assert found["resnet8"].kind == "nets"


@pytest.mark.parametrize("method", ["random", "tensor_cnn"])
def test_a_version_is_what_its_method_leaves_untrained(method):
    net = models.build("resnet8", IMAGE, 10)
    before = copy.deepcopy(net.state_dict())
    left = left_by(make(method, {"density": 0.2}), net, IMAGE)
    assert not left.training
    kept = sum(int(w.count_nonzero()) for w in prunable(left).values())
    whole = sum(w.numel() for w in prunable(models.build("resnet8", IMAGE, 10)).values())
    assert kept / whole == pytest.approx(0.2, abs=0.02)
    if method == "random":
        for name, weight in prunable(left).items():
            assert torch.equal(weight[weight != 0], before[name][weight != 0])


def test_the_same_subject_is_the_same_net_in_every_process():
    subject = subjects(CAMPAIGN)["resnet8"]
    first, again = subject.dense(), subject.dense()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    label = next(iter(subject.versions))
    made, once = (subject.loader()(subject.target(label).folder) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), once.parameters(), strict=True))


def test_a_subject_is_measured_resumed_and_has_its_controls(tmp_path):
    run.limits(CAMPAIGN, tmp_path)
    with calm():
        path = run.measured(CAMPAIGN, "resnet8", tmp_path)
    rows = pd.DataFrame(latency_table.read(path))
    labels = {f"{v}@{d}" for v in ("random", CHANNEL, "tensor_cnn") for d in (0.2, 0.6)}
    assert set(rows["run"]) == {"dense", *labels}
    assert set(rows["dataset"]) == {"nets"}
    timed = rows[rows["speedup"].notna()]
    paths = {(row.run, row.path) for row in timed.itertuples() if row.role == "candidate"}
    assert paths == {
        ("random@0.6", "masked_dense"),
        ("random@0.2", "masked_dense"),
        ("random@0.2", "embedding_bag"),
        (f"{CHANNEL}@0.6", "dense"),
        (f"{CHANNEL}@0.2", "dense"),
        ("tensor_cnn@0.6", "dense"),
    }
    assert set(rows.loc[rows["role"] == "control", "path"]) == {"embedding_bag"}
    assert (timed["output_error"] < 1e-5).all()
    reasons = {(row.run, row.path): row.reason for row in rows.itertuples()}
    assert "keeps more than 50 % of its weights" in reasons["random@0.6", "embedding_bag"]
    assert "64000 of 140720 weights stay dense" in reasons["tensor_cnn@0.2", "dense"]
    with calm():
        again = pd.DataFrame(latency_table.read(run.measured(CAMPAIGN, "resnet8", tmp_path)))
    assert again["median_ms"].tolist() == pytest.approx(rows["median_ms"].tolist(), nan_ok=True)


def test_ceilings_are_written_for_every_condition(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ceilings", lambda cell: Ceilings(cell.threads * 1e9, 1e10))
    found = pd.read_csv(run.limits(CAMPAIGN, tmp_path))
    assert found.to_dict("records") == [
        {"device": "cpu", "dtype": "fp32", "threads": 1, "flops": 1e9, "bandwidth": 1e10}
    ]


# --- what is read off the rows


@pytest.mark.parametrize(
    ("speedups", "density", "verdict"),
    [
        ([8, 4, 2, 0.5], 0.05 * 2**0.5, "found"),  # 2 at 5 %, 0.5 at 10 %: half way in logarithms
        ([8, 4, 2, 1.5], 0.1, "always"),
        ([0.9, 0.8, 0.7, 0.6], 0.0125, "never"),
        ([0.9, 1.2, 0.7, 0.6], 0.0125, "never"),  # a bump does not make a path worth its while
        ([4, 0.5, 2, 0.5], 0.0125 * 2 ** (2 / 3), "found"),
    ],
)
def test_a_crossover_lies_where_a_power_law_says(speedups, density, verdict):
    densities = [0.0125, 0.025, 0.05, 0.1]
    found = crossover(densities[::-1], speedups[::-1])
    assert found.verdict == verdict
    assert found.density == pytest.approx(density)


@contextmanager
def calm():
    """Every measurement counts, however crowded the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "busy", lambda: 0.0)
        patch.setattr(machine, "SPREAD", 1e9)
        patch.setattr(baseline, "CONTROL_BAND", 1e9)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A campaign on one layer and one net, timed for real."""
    path = tmp_path_factory.mktemp("speed")
    with calm():
        run.limits(CAMPAIGN, path)
        run.measured(CAMPAIGN, "conv3x3-16-16-32", path)
        run.measured(CAMPAIGN, "resnet8", path)
    return path


def test_a_campaigns_table_joins_times_with_what_is_left_of_a_version(folder):
    table = tidy(folder)
    layer = table[(table["dataset"] == "layers") & (table["role"] == "candidate")]
    assert set(layer["version"]) == {"random"}
    assert layer["asked"].tolist() == pytest.approx(layer["density"].tolist(), rel=0.02)
    assert layer["theory"].tolist() == pytest.approx((1 / layer["density"]).tolist(), rel=1e-6)
    timed = layer[layer["median_ms"].notna()]
    assert (timed["of_floor"] == timed["floor_ms"] / timed["median_ms"]).all()
    assert (table.loc[table["run"] == "dense", "theory"] == 1).all()
    removed = table[(table["run"] == f"{CHANNEL}@0.2") & (table["path"] == "dense")].iloc[0]
    assert removed["theory"] > 5  # channels go on both sides
    crossed = crossovers(table)
    assert set(crossed["path"]) == {"embedding_bag"}


def test_a_campaigns_tables_show_every_layer_and_net(folder):
    write(folder)
    text = {name: (folder / "tables" / f"{name}.md").read_text() for name in TABLES}
    assert "| conv3x3-16-16-32 |" in text["layers"]
    assert "resnet8: dense" in text["nets"]
    assert f"| {CHANNEL} | 0.2 |" in text["nets"]
    assert "| A/A pair | dense |" in text["controls"]
    assert "| through a path | embedding_bag |" in text["controls"]
    drawn = figures.draw(folder)
    assert sorted(file.name for file in drawn) == [
        "crossover.pdf", "crossover.png", "theory.pdf", "theory.png",
    ]  # fmt: skip
    first = [file.read_bytes() for file in drawn]
    assert [file.read_bytes() for file in figures.draw(folder)] == first


def test_a_layer_that_falls_short_of_its_theory_has_a_reason_too():
    """Dense 10 ms, theory 10: 1 ms of arithmetic; the floor adds 2, the kernel 1 or 6."""
    row = {"role": "candidate", "status": "ok", "dataset": "layers", "theory": 10.0}
    rows = pd.DataFrame(
        [
            row | {"path": "csr", "median_ms": 4.0, "speedup": 2.5, "floor_ms": 3.0},
            row | {"path": "csr", "median_ms": 9.0, "speedup": 10 / 9, "floor_ms": 3.0},
            row | {"path": "csr", "median_ms": 1.5, "speedup": 10 / 1.5, "floor_ms": 1.2},
            row | {"path": "masked_dense", "median_ms": 10.0, "speedup": 1.0, "floor_ms": 3.0},
        ]
    )
    found = lost_in_layers(rows)
    assert found[0] == "67 % of the time lost: memory traffic"
    assert found[1] == "75 % of the time lost: the kernel itself"
    assert pd.isna(found[2])  # more than half of it
    assert found[3] == "masked_dense multiplies zeros like any number"


def test_a_published_campaign_has_all_that_its_tables_are_made_of(folder, tmp_path, monkeypatch):
    write(folder)
    figures.draw(folder)
    made = {f.name: f.read_bytes() for f in (folder / "tables").iterdir()}
    monkeypatch.chdir(tmp_path)
    assert main(["publish", str(folder), "here"]) == 0
    published = tmp_path / "results" / "published" / "here"
    assert {f.name for f in published.iterdir()} == {
        "tables", "figures", "ceilings.csv", "environment.json", "campaign.json",
    }  # fmt: skip
    for file in (published / "tables").iterdir():
        if file.name != "speed.csv":
            file.unlink()
    assert main(["tables", str(published)]) == 0
    assert {f.name: f.read_bytes() for f in (published / "tables").iterdir()} == made
    assert main(["publish", str(folder), "here", "--add"]) == 1


def test_a_net_that_falls_short_of_its_theory_has_a_reason(folder):
    why = pd.read_csv(folder / "reasons" / "resnet8.csv")
    masked = why[why["path"] == "masked_dense"].set_index("run")["why"]
    assert set(masked.index) == {"random@0.6", "random@0.2"}
    assert masked["random@0.2"] == "masked_dense multiplies zeros like any number"
    assert pd.isna(masked["random@0.6"])  # dense kernels reach half of that theory
    used = why.set_index(["run", "path"])["exploited"]
    assert used["random@0.2", "masked_dense"] == 0
    assert used["random@0.2", "embedding_bag"] == pytest.approx(1)
    # channels that are gone are multiplied by nothing
    assert not why[why["path"] == "dense"]["why"].str.contains("multiplies zeros").any()
    looked = pd.read_csv(folder / "diagnosis" / "resnet8.csv")
    assert set(looked["path"]) == {"dense", "embedding_bag"}
    assert set(looked["name"]) >= {"conv1", "fc"}


TABLES = ("layers", "nets", "controls")


def test_the_command_does_a_campaign_step_by_step(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = CAMPAIGN.model_dump(mode="json", exclude_none=True)
    small["layers"]["of"], small["nets"]["of"] = ["resnet8"], ["lenet5"]
    small["nets"]["versions"] = {"random": [{}]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    assert main(["speed", "small.yaml", "--step", "list"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed[-1] == "lenet5"
    assert main(["speed", "small.yaml", "--step", "subject", "--subject", "resnet9"]) == 1
    assert "no subject 'resnet9'" in capsys.readouterr().err
    for step in (["ceilings"], ["subject", "--subject", listed[0]], ["tables"]):
        assert main(["speed", "small.yaml", "--step", *step]) == 0
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.csv")}
    assert written >= {
        "results/try/ceilings.csv",
        f"results/try/latency/{listed[0]}.csv",
        f"results/try/versions/{listed[0]}.csv",
        "results/try/tables/speed.csv",
    }
    small["nets"]["densitys"] = [0.1]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(small))
    assert main(["speed", "wrong.yaml", "--step", "list"]) == 1
    assert "nets.densitys: unknown key; did you mean 'densities'?" in capsys.readouterr().err


def test_a_bare_machine_will_do():
    """No MLflow, no Snakemake, no torchvision behind a campaign of own nets."""
    code = (
        "import sys, bench.speed.run, bench.speed.tune, bench.kernels as k; "
        "[k.load(n) for n in k.names()]; "
        "heavy = {'mlflow', 'snakemake', 'torchvision', 'timm', 'matplotlib'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tuning_without_a_gpu_says_so(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["tune", "cpu"]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err


def test_what_is_tuned_are_the_layers_in_blocks():
    part = CAMPAIGN.nets.model_copy(
        update={"versions": {"random": ({"pattern": "block:16x16", "uneven": "dense"},)}}
    )
    subject = Subject("nets", "timm:deit_tiny_patch16_224", (3, 224, 224), part)
    found = [(tuple(layer.weight.shape), tokens) for layer, tokens in wanted(subject)]
    assert {shape for shape, _ in found} == {(576, 192), (192, 192), (768, 192), (192, 768)}
    assert {tokens for _, tokens in found} == {256}  # 197, in whole blocks
    assert len(found) == 4 * 12  # at 20 %; at 60 % they stay dense


def test_two_campaigns_are_compared_by_the_command(folder, tmp_path, capsys):
    write(folder)
    assert main(["regress", str(folder), str(folder)]) == 0
    assert "no path has become slower" in capsys.readouterr().out


def test_the_campaigns_that_are_there_can_be_read():
    for file in FOLDER.glob("*.yaml"):
        campaign = read(file)
        assert campaign.campaign == file.stem
        for part in filter(None, (campaign.layers, campaign.nets)):
            for path in part.latency.paths:
                kernels.load(path)
            for method, settings in part.versions.items():
                for params in settings:
                    made = make(method, {"density": part.densities[0], **params})
                    Pattern.parse(getattr(made, "pattern", "unstructured"))


def test_what_would_be_ignored_in_a_campaign_is_refused():
    layers = CAMPAIGN.layers
    said = CAMPAIGN.model_dump(mode="json", exclude_none=True)
    for own in ({"relu": True}, {"only": ["conv*"]}):
        with pytest.raises(ValueError, match="only and relu are said of layers"):
            Campaign.model_validate(said | {"nets": said["nets"] | own})
    unknown = layers.model_copy(update={"only": ("conv3x3-*", "conv9x9-*")})
    with pytest.raises(ConfigError, match=r"no layer of these nets is called conv9x9-\*"):
        subjects(CAMPAIGN.model_copy(update={"layers": unknown}))
    some = layers.model_copy(update={"only": ("conv1x1-*",), "relu": True})
    found = subjects(CAMPAIGN.model_copy(update={"layers": some, "nets": None}))
    assert found
    assert all(name.startswith("conv1x1-") and name.endswith("-relu") for name in found)
    assert all([type(m) for m in one.dense()] == [nn.Conv2d, nn.ReLU] for one in found.values())
