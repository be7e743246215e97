"""Configs are refused with file, key and reason; what is accepted expands into whole plans."""

from __future__ import annotations

import copy
import json
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from bench import method as methods
from bench.plan import Plan, baseline, expand
from bench.spec import Recipe, RunSpec
from bench.suite import Config, ConfigError, read, validate

CONFIGS = Path(__file__).parents[1] / "bench" / "config"
SUITES = sorted(f for f in CONFIGS.glob("*.yaml") if "suite" in yaml.safe_load(f.read_text()))
BASE: dict[str, Any] = {
    "suite": "small",
    "densities": [0.5, 0.2],
    "seeds": [0, 1],
    "tasks": [
        {
            "datasets": ["digits"],
            "architectures": ["resnet8", "lstm"],
            "train": {"epochs": 2, "lr": 0.1},
            "finetune": {"epochs": 1},
        }
    ],
    "methods": {"all": [{}]},
}


def changed(task: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """`BASE` with other top-level keys, and other keys in its task."""
    content = copy.deepcopy(BASE)
    content["tasks"][0].update(task or {})
    return content | keys


def plan(**keys: Any) -> Plan:
    return expand(validate(changed(**keys), "test.yaml"))


REFUSED = {
    "unknown key": (changed(densites=[0.5]), "densites: unknown key; did you mean 'densities'?"),
    "unknown latency key": (
        changed(latency={"batch_size": [1]}),
        "latency.batch_size: unknown key; did you mean 'batch_size",
    ),
    "missing key": ({k: v for k, v in BASE.items() if k != "seeds"}, "seeds: Field required"),
    "misspelt method": (
        changed(methods={"magnitud": [{}]}),
        "methods.magnitud: no method 'magnitud'; did you mean 'magnitude'?",
    ),
    "misspelt parameter": (
        changed(methods={"magnitude": [{}, {"patern": "2:4"}]}),
        "methods.magnitude.1: magnitude: no parameter 'patern'; there are: density",
    ),
    "parameter out of range": (
        changed(methods={"magnitude": [{"density": 2}]}),
        "methods.magnitude.0: magnitude: density = 2: Input should be less than or equal to 1",
    ),
    "unknown pattern": (
        changed(methods={"magnitude": [{"pattern": "2by4"}]}),
        "methods.magnitude.0: magnitude: pattern = '2by4'",
    ),
    "density 0": (changed(densities=[0.5, 0]), "densities.1: Input should be greater than 0"),
    "density above 1": (changed(densities=[1.5]), "densities.0: Input should be less than"),
    "no density": (changed(densities=[]), "densities: "),
    "density twice": (changed(densities=[0.5, 0.5]), "densities: [0.5, 0.5] names a value twice"),
    "seed as text": (changed(seeds=["0"]), "seeds.0: Input should be a valid integer, not '0'"),
    "seed with a point": (changed(seeds=[1.0]), "seeds.0: Input should be a valid integer"),
    "seed yes": (changed(seeds=[True]), "seeds.0: Input should be a valid integer"),
    "negative seed": (changed(seeds=[-1]), "seeds.0: Input should be greater than or equal to 0"),
    "seed twice": (changed(seeds=[3, 3]), "seeds: [3, 3] names a value twice"),
    "unknown data set": (
        changed({"datasets": ["digit"]}),
        "tasks.0.datasets: unknown data set 'digit'; did you mean 'digits'?",
    ),
    "folder outside the root": (
        changed({"datasets": ["folder:../secret"]}),
        "tasks.0.datasets: 'folder:../secret'",
    ),
    "unknown net": (
        changed({"architectures": ["resnet9"]}),
        "tasks.0.architectures: unknown architecture 'resnet9'; did you mean 'resnet8'?",
    ),
    "net that cannot take the data": (
        changed({"architectures": ["lenet5"]}),
        "tasks.0.architectures: lenet5 needs images of at least 16x16 pixels, these are 8x8",
    ),
    "N:M that divides no layer": (
        changed(methods={"magnitude": [{"pattern": "2:4"}]}, densities=[0.5]),
        "methods.magnitude.0: pattern '2:4': layer 'conv1.weight' cannot hold it",
    ),
    "N:M at another density": (
        changed(methods={"magnitude": [{"pattern": "3:4", "uneven": "dense"}]}, densities=[0.5]),
        "methods.magnitude.0: pattern '3:4' keeps density 0.75, not 0.5",
    ),
    "misspelt recipe key": (
        changed({"train": {"epoch": 3}}),
        "tasks.0.train.epoch: unknown key; did you mean 'epochs'?",
    ),
    "recipe value": (
        changed({"finetune": {"lr": -1}}),
        "tasks.0.finetune.lr: Input should be greater than 0, not -1",
    ),
    "unknown path": (
        changed(latency={"paths": ["dens"]}),
        "latency.paths: no execution path 'dens'; there are: dense",
    ),
    "unknown control": (changed(controls=["luck"]), "controls.0: Input should be 'random' or"),
    "unknown tier": (changed(tier="fair"), "tier: Input should be 'equal' or 'paper', not 'fair'"),
    "suite with a space": (changed(suite="my suite"), "suite: String should match pattern"),
    "no mapping": ([1, 2], "(top level): "),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_config_is_refused_once_with_file_and_key(content: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(content, "some/test.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"some/test.yaml: {message}")


def test_every_fault_of_a_config_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(densities=[2], seeds=[-1], tire="equal"), "test.yaml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "densities.0",
        "seeds.0",
        "tire",
    ]


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("suite: [unclosed")
    with pytest.raises(ConfigError, match=r"broken\.yaml: is not YAML"):
        read(tmp_path / "broken.yaml")


@pytest.mark.parametrize("file", SUITES, ids=lambda f: f.stem)
def test_every_suite_here_is_valid_and_named_like_its_file(file: Path) -> None:
    config = read(file)
    assert config.suite == file.stem
    assert expand(config).runs


def test_the_schema_is_that_of_the_models() -> None:
    """To mend it: python -m bench schema."""
    assert json.loads((CONFIGS / "schema.json").read_text()) == Config.model_json_schema()


def test_every_key_of_a_config_is_described() -> None:
    schema = Config.model_json_schema()
    described = {"tasks", "latency"}  # their parts are
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        missing = [k for k, v in part["properties"].items() if "description" not in v]
        assert set(missing) <= described, part["title"]


# --- expansion


def test_every_run_has_its_dense_baseline_in_the_plan() -> None:
    made = plan()
    for run, spec in made.runs.items():
        assert run == spec.id
        if spec.method == "dense":
            assert made.needs[run] == ()
            assert spec.finetune is None
        else:
            dense = baseline(spec)
            assert dense == made.runs[dense.id]
            assert made.needs[run][0] == dense.id
            assert (dense.arch, dense.dataset, dense.seed, dense.train) == (
                spec.arch, spec.dataset, spec.seed, spec.train,
            )  # fmt: skip


def test_there_is_one_dense_run_for_each_net_data_set_and_seed() -> None:
    dense = [s for s in plan().runs.values() if s.method == "dense"]
    assert sorted((s.arch, s.seed) for s in dense) == [
        (arch, seed) for arch in ("lstm", "resnet8") for seed in (0, 1)
    ]


def test_one_shot_methods_run_once_per_density_and_iterative_ones_once_per_curve() -> None:
    made = plan()
    for name in methods.names():
        if name == "dense":
            continue
        runs = [s for s in made.runs.values() if s.method == name and s.like is None]
        kind = methods.load(name)
        for arch in ("resnet8", "lstm"):
            for seed in (0, 1):
                mine = [s for s in runs if (s.arch, s.seed) == (arch, seed)]
                wanted = [methods.make(name, s.params).model_dump()["density"] for s in mine]
                if kind.iterative:
                    assert wanted == [0.2], name
                    assert mine[0].densities == (0.5, 0.2)
                else:
                    assert sorted(wanted) == [0.2, 0.5], name
                    assert all(s.densities == () for s in mine)


def test_every_pruned_run_has_its_controls_and_no_method_is_its_own() -> None:
    made = plan()
    for run, spec in made.runs.items():
        mine = {s.method: s for s in made.runs.values() if s.like == run}
        if spec.like is not None or spec.method in ("dense", "random"):
            assert mine == {}
        else:
            assert set(mine) == {"random", "magnitude"} - {spec.method}
        for control in mine.values():
            assert made.needs[control.id] == (baseline(spec).id, run)
            assert (control.arch, control.seed, control.train, control.densities) == (
                spec.arch, spec.seed, spec.train, spec.densities,
            )  # fmt: skip
            assert control.finetune.epochs == spec.finetune.epochs  # the same budget
            assert control.variant == f"{control.method}(like={spec.variant})"


def test_controls_can_be_left_out() -> None:
    assert all(spec.like is None for spec in plan(controls=[]).runs.values())


def test_all_schedules_every_method_and_a_named_one_keeps_its_own_sets() -> None:
    made = plan(methods={"all": [{}], "magnitude": [{"allocation": "erk"}]}, controls=[])
    variants = {spec.variant for spec in made.runs.values()}
    assert variants == {n for n in methods.names() if n != "magnitude"} | {
        "magnitude(allocation=erk)"
    }


def test_a_parameter_at_its_default_is_the_same_run() -> None:
    written = plan(methods={"magnitude": [{"pattern": "unstructured"}]})
    assert set(written.runs) == set(plan(methods={"magnitude": [{}]}).runs)


def test_finetuning_takes_what_it_does_not_name_from_the_training() -> None:
    made = plan(methods={"magnitude": [{}]}, controls=[])
    for spec in made.runs.values():
        assert spec.train == Recipe(epochs=2, lr=0.1)
        assert spec.finetune in (None, Recipe(epochs=1, lr=0.1))


def test_the_order_of_a_config_does_not_change_its_runs() -> None:
    other = changed(densities=[0.2, 0.5], seeds=[1, 0])
    assert set(expand(validate(other, "test.yaml")).runs) == set(plan().runs)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_batches_hold_every_run_once_and_depend_without_a_cycle(size: int) -> None:
    made = plan(runs_per_job=size)
    held = [run for runs in made.batches.values() for run in runs]
    assert sorted(held) == sorted(made.runs)
    assert max(len(runs) for runs in made.batches.values()) <= size
    order = list(TopologicalSorter(made.batch_needs).static_order())  # raises on a cycle
    assert set(order) == set(made.batches)
    for run, needs in made.needs.items():
        for need in needs:
            own, other = made.batch_of[run], made.batch_of[need]
            assert own != other
            assert other in made.batch_needs[own]


def test_latency_is_measured_for_the_first_seed_of_each_pair_without_controls() -> None:
    made = plan(seeds=[4, 2])
    assert set(made.pairs.values()) == {("resnet8", "digits"), ("lstm", "digits")}
    for pair, (arch, _) in made.pairs.items():
        timed = [made.runs[run] for run in made.timed(pair)]
        assert {s.method for s in timed} == set(methods.names())
        assert all(s.arch == arch and s.seed == 2 and s.like is None for s in timed)


# --- identity

FINETUNE = Recipe(epochs=6, lr=0.05)
PINNED = {
    "dense-resnet8-digits-s0-68b601ac": RunSpec(method="dense", arch="resnet8", dataset="digits"),
    "dense-resnet8-digits-s3-a819150f": RunSpec(
        method="dense", arch="resnet8", dataset="digits", seed=3
    ),
    "dense-lstm-digits-s0-c0e58e77": RunSpec(
        method="dense",
        arch="lstm",
        dataset="digits",
        train=Recipe(optimizer="adam", lr=0.003, weight_decay=0),
    ),
    "dense-timm.vit_tiny_patch16_224-folder.birds.small-s0-8a05c42f": RunSpec(
        method="dense", arch="timm:vit_tiny_patch16_224", dataset="folder:birds/small"
    ),
    "magnitude-resnet8-digits-s0-b9ecd51a": RunSpec(
        method="magnitude", arch="resnet8", dataset="digits", finetune=FINETUNE
    ),
    "magnitude-resnet8-digits-s0-182117a7": RunSpec(
        method="magnitude",
        arch="resnet8",
        dataset="digits",
        finetune=FINETUNE,
        params={"density": 0.05, "allocation": "erk"},
    ),
    "magnitude-resnet8-digits-s0-eba7d08b": RunSpec(
        method="magnitude", method_version=2, arch="resnet8", dataset="digits", finetune=FINETUNE
    ),
    "random-resnet8-digits-s0-2e721e24": RunSpec(
        method="random",
        arch="resnet8",
        dataset="digits",
        finetune=FINETUNE,
        like="saam-resnet8-digits-s0-00000000",
    ),
    "sap-resnet20-cifar10-s0-865fc33a": RunSpec(
        method="sap",
        arch="resnet20",
        dataset="cifar10",
        tier="paper",
        finetune=Recipe(epochs=200, clip=1.0, batch_size=250),
        densities=(0.5, 0.2),
    ),
    "dense-resnet20-cifar10-s0-56978fbc": RunSpec(
        method="dense",
        arch="resnet20",
        dataset="cifar10",
        train=Recipe(augment=("crop", "flip"), precision="bf16", channels_last=True),
    ),
    "dense-lenet5-mnist-s0-c7af2b9a": RunSpec(
        method="dense", arch="lenet5", dataset="mnist", weights="w.safetensors"
    ),
    "dense-lenet5-mnist-s0-d42ab83c": RunSpec(
        method="dense",
        arch="lenet5",
        dataset="mnist",
        train=Recipe(
            schedule="step",
            milestones=(0.3, 0.6),
            gamma=0.2,
            warmup=2,
            label_smoothing=0.1,
            compile=True,
        ),
    ),
}


@pytest.mark.parametrize(("run", "spec"), PINNED.items(), ids=PINNED)
def test_run_ids_stay_what_they_are(run: str, spec: RunSpec) -> None:
    """A changed id orphans every record made before; that needs a new PROTOCOL, and a reason."""
    assert spec.id == run


@pytest.mark.parametrize("spec", PINNED.values(), ids=PINNED)
def test_an_id_survives_json_and_the_order_of_parameters(spec: RunSpec) -> None:
    assert RunSpec.model_validate_json(spec.model_dump_json()).id == spec.id
    turned = spec.model_copy(update={"params": dict(reversed(spec.params.items()))})
    assert turned.id == spec.id


@pytest.mark.parametrize("spec", PINNED.values(), ids=PINNED)
def test_a_new_field_with_a_neutral_default_keeps_ids(spec: RunSpec) -> None:
    class LaterRecipe(Recipe):
        ema: float = 0.0

    class LaterSpec(RunSpec):
        train: LaterRecipe = LaterRecipe()
        finetune: LaterRecipe | None = None
        teacher: str | None = None

    later = LaterSpec.model_validate(spec.model_dump())
    assert later.id == spec.id
    assert later.model_copy(update={"teacher": "resnet56"}).id != spec.id
    ema = later.train.model_copy(update={"ema": 0.9})
    assert later.model_copy(update={"train": ema}).id != spec.id


def test_every_field_but_the_row_label_changes_the_id() -> None:
    spec = PINNED["magnitude-resnet8-digits-s0-b9ecd51a"]
    other: dict[str, Any] = {
        "method": "random", "method_version": 2, "params": {"density": 0.3}, "arch": "lstm",
        "dataset": "mnist", "tier": "paper", "train": Recipe(lr=0.2), "finetune": Recipe(),
        "seed": 1, "densities": (0.5,), "like": "x", "weights": "w", "protocol": 99,
    }  # fmt: skip
    assert set(other) == set(RunSpec.model_fields) - {"variant"}
    ids = {spec.model_copy(update={key: value}).id for key, value in other.items()} | {spec.id}
    assert len(ids) == len(other) + 1
    assert spec.model_copy(update={"variant": "another label"}).id == spec.id


def test_a_spec_cannot_be_changed_or_given_an_unknown_field() -> None:
    spec = RunSpec(method="dense", arch="resnet8", dataset="digits")
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="sead"):
        RunSpec(method="dense", arch="resnet8", dataset="digits", sead=1)  # type: ignore[call-arg]
