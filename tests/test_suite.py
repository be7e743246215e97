"""Configs are refused with the file, the key and a reason, each fault once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.plan import expand
from bench.suite import Config, ConfigError, read, validate
from tests.configs import BASE, changed

CONFIGS = Path(__file__).parents[1] / "bench" / "config"
SUITES = sorted(f for f in CONFIGS.glob("*.yaml") if "suite" in yaml.safe_load(f.read_text()))


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
        "latency.paths: no execution path 'dens'; there are: ",
    ),
    "unknown control": (
        changed(controls=["luck"]),
        "controls.0: Input should be 'random', 'magnitude' or 'scratch'",
    ),
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
