"""A suite: what its config file may say, and whether what it says can be run."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from bench.latency.config import LatencyConfig
from bench.method import Method, MethodError, load, make, names
from bench.spec import Frozen, Recipe

if TYPE_CHECKING:
    from torch import nn

Control = Literal["random", "magnitude", "scratch"]
Parsed = TypeVar("Parsed", bound=Frozen)


class Task(Frozen):
    """Pairs of data sets and architectures that train alike."""

    datasets: tuple[str, ...] = Field(
        min_length=1, description="data sets by name, `arrays:<name>`, `folder:<name>`"
    )
    architectures: tuple[str, ...] = Field(
        min_length=1, description="nets by name, or `timm:<name>`"
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="the dense run's `Recipe` fields"
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="fields that differ beyond the dense start"
    )
    weights: str | None = Field(
        None, description="local checkpoint to start from instead of random weights"
    )


class Config(Frozen):
    """A suite: what to run. The schema of the files in `bench/config`."""

    suite: str = Field(pattern=r"^[a-z0-9_]+$", description="name; results go to results/<suite>")
    tier: Literal["equal", "paper"] = Field(
        "equal",
        description="equal: the same epochs beyond the shared dense start for all; "
        "paper: each its paper's",
    )
    data_root: str | None = Field(
        None, description="folder of the data sets; else $BENCH_DATA, else ./data"
    )
    download: bool = Field(False, description="let torchvision fetch what is missing")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where runs train; auto: cuda where there is one"
    )
    densities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        min_length=1, description="kept fractions of the prunable weights"
    )
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(
        min_length=1, description="one run for each"
    )
    tasks: tuple[Task, ...] = Field(min_length=1)
    methods: dict[str, tuple[dict[str, Any], ...]] = Field(
        {"all": ({},)},
        description="parameter sets for each method; `all`: every file in methods/ not named here",
    )
    controls: tuple[Control, ...] = Field(
        ("random", "magnitude", "scratch"),
        description="run for every method: random and magnitude masks with that method's own layer "
        "densities; scratch: its pruned shape, trained from untrained weights, a whole training "
        "each",
    )
    runs_per_job: int = Field(
        1, ge=1, description="runs of one method and pair that share a process"
    )
    latency: LatencyConfig | None = Field(
        LatencyConfig(), description="none: no latency is measured"
    )


class ConfigError(ValueError):
    """A config that cannot be run; the message names the file and the key."""


def read(path: str | Path) -> Config:
    """The validated config in the YAML file `path`.

    `ConfigError` names the file, the key and what is allowed.
    """
    return validate(load_yaml(path), str(path))


def load_yaml(path: str | Path) -> Any:
    """What a YAML file holds; `ConfigError` if it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None


def validate(content: Any, source: str) -> Config:
    """`content`, a parsed config, as a `Config`.

    Every value is checked, down to each method's parameters.
    """
    config = parse(Config, content, source, Task, Recipe, LatencyConfig)
    check(config, source)
    return config


def parse(kind: type[Parsed], content: Any, source: str, *parts: type[Frozen]) -> Parsed:
    """`content` as a `kind`, whose parts have these types; `ConfigError` says what is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # an item that is refused also shortens its list: one fault, one message
        told = [e for e in error.errors() if e["type"] != "too_short" or not e["input"]]
        known: list[type[Frozen]] = [kind, *parts]
        keys = {key for part in known for key in part.model_fields}
        said = "\n".join(f"{source}: {_sentence(item, keys)}" for item in told)
        raise ConfigError(said) from None


def _sentence(error: Any, keys: set[str]) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), keys, 1)
        return f"{where}: unknown key" + (f"; did you mean {close[0]!r}?" if close else "")
    return f"{where}: {error['msg']}" + (
        "" if error["type"] == "missing" else f", not {error.get('input')!r}"
    )


def check(config: Config, source: str) -> None:
    """Raise `ConfigError` for what `config` names and what cannot be run.

    An unknown method, net or data set, a parameter that is refused, or a pattern that a layer
    cannot hold.
    """
    from bench import data, kernels, models

    known = names()
    for key, values in (("densities", config.densities), ("seeds", config.seeds)):
        if len(set(values)) < len(values):
            raise ConfigError(f"{source}: {key}: {list(values)} names a value twice")
    if config.latency:
        for path in config.latency.paths:
            if path not in kernels.names():
                known_paths = ", ".join(kernels.names())
                raise ConfigError(
                    f"{source}: latency.paths: no execution path {path!r}; there are: {known_paths}"
                )
    for name in config.methods:
        if name != "all" and name not in known:
            try:
                load(name)
            except MethodError as error:
                raise ConfigError(f"{source}: methods.{name}: {error}") from None
    for t, task in enumerate(config.tasks):
        for dataset in task.datasets:
            if reason := data.unknown(dataset):
                raise ConfigError(f"{source}: tasks.{t}.datasets: {reason}")
        for arch in task.architectures:
            if reason := models.unknown(arch):
                raise ConfigError(f"{source}: tasks.{t}.architectures: {reason}")
        for key in ("train", "finetune"):
            try:
                recipe(task, key)
            except ValidationError as error:
                sentence = _sentence(error.errors()[0], set(Recipe.model_fields))
                raise ConfigError(f"{source}: tasks.{t}.{key}.{sentence}") from None
    built = nets(config, source)
    for name, index, params in variants(config):
        for density in config.densities if "density" in load(name).model_fields else [None]:
            full = (
                params if density is None or "density" in params else {**params, "density": density}
            )
            try:
                method = make(name, full)
                refuse_pattern(method, built)
            except ValueError as error:
                raise ConfigError(f"{source}: methods.{name}.{index}: {error}") from None


def nets(config: Config, source: str) -> dict[str, nn.Module]:
    """`<arch> on <data set>` -> the net on the meta device, without data.

    Raises `ConfigError` if a net does not fit its data set. A folder of images or arrays that is
    not there yet has no known size: its nets are checked when they run.
    """
    import torch

    from bench import data, models

    built = {}
    for t, task in enumerate(config.tasks):
        for dataset in task.datasets:
            try:
                shape, classes = data.describe_shape(dataset, config.data_root)
            except data.DataError:
                continue
            for arch in task.architectures:
                try:
                    with torch.device("meta"):
                        built[f"{arch} on {dataset}"] = models.build(arch, shape, classes)
                except models.ModelError as error:
                    raise ConfigError(
                        f"{source}: tasks.{t}.architectures: {error} ({dataset})"
                    ) from None
    return built


def refuse_pattern(method: Method, nets: dict[str, nn.Module]) -> None:
    """Raise `ValueError` if the method's pattern does not fit a layer of one of `nets`.

    `nets`: those that the config asks for, as `nets(config, source)` builds them.
    """
    from bench.surgery.prune import check as check_pattern
    from bench.surgery.prune import check_uniform_plus

    fields = dict(method)
    density = fields.get("density") if isinstance(fields.get("density"), float) else None
    for pair, model in nets.items():
        try:
            if "uneven" in fields:
                check_pattern(model, fields["pattern"], density, fields["uneven"])
            if fields.get("allocation") == "uniform_plus" and density is not None:
                check_uniform_plus(model, density)
        except ValueError as error:
            raise ValueError(f"{error} ({pair})") from None


def variants(config: Config) -> list[tuple[str, int, dict[str, Any]]]:
    """(method, index, parameters) of every parameter set that the config schedules.

    The dense baseline comes first.
    """
    chosen = {n: sets for n, sets in config.methods.items() if n != "all"}
    if "all" in config.methods:
        chosen = {n: chosen.get(n, config.methods["all"]) for n in names()}
    chosen = {
        "dense": chosen.get("dense", ({},)),
        **{n: s for n, s in chosen.items() if n != "dense"},
    }
    return [(n, i, params) for n, sets in chosen.items() for i, params in enumerate(sets)]


def recipe(task: Task, key: str) -> Recipe:
    """The task's schedule: `finetune` is `train` with the keys that it overrides."""
    fields = task.train if key == "train" else {**task.train, **task.finetune}
    return Recipe.model_validate(fields)
