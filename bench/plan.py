"""From a config file to the runs it means: validation, expansion, dependencies and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from bench.method import Method, MethodError, complaint, load, make, names
from bench.spec import Config, Control, Recipe, RunSpec, Task, slug

if TYPE_CHECKING:
    from torch import nn


class ConfigError(ValueError):
    """A config that cannot be run; the message names the file and the key."""


def read(path: str | Path) -> Config:
    """The validated config in the YAML file `path`; `ConfigError` names the file, the key and what is allowed."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    return validate(content, str(path))


def validate(content: Any, source: str) -> Config:
    """`content`, a parsed config, as a `Config`; every value is checked, down to each method's parameters."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{source}: {_sentence(item)}" for item in error.errors())
        ) from None
    check(config, source)
    return config


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    return f"{where}: {error['msg']}" + (
        "" if error["type"] == "missing" else f", not {error.get('input')!r}"
    )


def check(config: Config, source: str) -> None:
    """Raise `ConfigError` for an unknown method, net or data set, a parameter, or a pattern a layer cannot hold."""
    from bench import data, kernels, models

    known = names()
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
                sentence = _sentence(error.errors()[0])
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
    """`<arch> on <data set>` -> the net on the meta device, without data; `ConfigError` if it does not fit.

    A folder of images or arrays that is not there yet has no known size: its nets are checked when they run.
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
    """Raise `PatternError` if the method's pattern does not fit a layer of a net that the config asks for."""
    fields = dict(method)
    pattern = fields.get("pattern", "unstructured")
    if pattern == "unstructured" or "uneven" not in fields:
        return
    from bench.surgery.prune import check as check_pattern

    for pair, model in nets.items():
        try:
            check_pattern(model, pattern, fields["density"], fields["uneven"])
        except ValueError as error:
            raise ValueError(f"{error} ({pair})") from None


def variants(config: Config) -> list[tuple[str, int, dict[str, Any]]]:
    """(method, index, parameters) of every parameter set that the config schedules, the dense baseline first."""
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


@dataclass(frozen=True)
class Plan:
    """Every run of a config, and what each needs."""

    config: Config
    runs: dict[str, RunSpec]
    needs: dict[str, tuple[str, ...]]

    @cached_property
    def batches(self) -> dict[str, tuple[str, ...]]:
        """Job name -> the runs that one process does one after the other.

        A batch holds runs of one method on one pair that need the same kind of predecessor, so batches depend on
        each other as their runs do, without a cycle.
        """
        gathered: dict[str, list[str]] = {}
        for run, spec in self.runs.items():
            like = ".like" if spec.like else ""
            key = f"{spec.method}{like}-{slug(spec.arch)}-{slug(spec.dataset)}"
            gathered.setdefault(key, []).append(run)
        size = self.config.runs_per_job
        return {
            f"{key}-{i // size:04d}": tuple(sorted(runs)[i : i + size])
            for key, runs in gathered.items()
            for i in range(0, len(runs), size)
        }

    @cached_property
    def batch_of(self) -> dict[str, str]:
        """Run id -> the batch that does it."""
        return {run: batch for batch, runs in self.batches.items() for run in runs}

    @cached_property
    def batch_needs(self) -> dict[str, tuple[str, ...]]:
        """Batch -> the batches whose records it reads."""
        return {
            batch: tuple(
                sorted({self.batch_of[need] for run in runs for need in self.needs[run]} - {batch})
            )
            for batch, runs in self.batches.items()
        }

    @cached_property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """`<arch>-<dataset>` -> (arch, data set)."""
        return {
            f"{slug(s.arch)}-{slug(s.dataset)}": (s.arch, s.dataset) for s in self.runs.values()
        }

    @cached_property
    def datasets(self) -> dict[str, str]:
        """Slug -> name of every data set."""
        return {slug(s.dataset): s.dataset for s in self.runs.values()}

    def timed(self, pair: str) -> tuple[str, ...]:
        """The runs whose points the latency job of `pair` measures: those of the first seed, without controls."""
        arch, dataset = self.pairs[pair]
        first = min(self.config.seeds)
        return tuple(
            run
            for run, s in self.runs.items()
            if (s.arch, s.dataset, s.seed) == (arch, dataset, first) and s.like is None
        )


def expand(config: Config) -> Plan:
    """All runs of `config`: every parameter set x pair x density x seed, with its dense baseline and its controls."""
    runs: dict[str, RunSpec] = {}
    needs: dict[str, tuple[str, ...]] = {}

    def add(spec: RunSpec, *before: str) -> str:
        runs[spec.id], needs[spec.id] = spec, before
        return spec.id

    for task in config.tasks:
        train, finetune = recipe(task, "train"), recipe(task, "finetune")
        for dataset in task.datasets:
            for arch in task.architectures:
                for seed in config.seeds:
                    common = {
                        "arch": arch,
                        "dataset": dataset,
                        "seed": seed,
                        "train": train,
                        "weights": task.weights,
                    }
                    dense = add(
                        RunSpec(
                            method="dense",
                            method_version=load("dense").version,
                            variant="dense",
                            **common,
                        )
                    )
                    for name, _, params in variants(config):
                        if name == "dense":
                            continue
                        for full in densities(name, params, config):
                            curve = (
                                tuple(sorted(config.densities, reverse=True))
                                if load(name).iterative
                                else ()
                            )
                            common["densities"] = curve
                            spec = specify(name, full, common, config.tier, finetune)
                            add(spec, dense)
                            for control, fields in controls(spec, config.controls):
                                add(
                                    specify(control, fields, common, config.tier, finetune, spec),
                                    dense,
                                    spec.id,
                                )
    return Plan(config, runs, needs)


def baseline(spec: RunSpec) -> RunSpec:
    """The dense run that `spec` starts from and is compared to; it is the same one in both tiers."""
    return RunSpec(
        method="dense",
        method_version=load("dense").version,
        variant="dense",
        arch=spec.arch,
        dataset=spec.dataset,
        train=spec.train,
        seed=spec.seed,
        weights=spec.weights,
    )


def densities(name: str, params: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    """`params` once for every density; once with the lowest where one run yields the whole curve."""
    method = load(name)
    if "density" not in method.model_fields or "density" in params:
        return [params]
    wanted = (min(config.densities),) if method.iterative else config.densities
    return [{**params, "density": density} for density in wanted]


def controls(spec: RunSpec, kinds: tuple[Control, ...]) -> list[tuple[str, dict[str, Any]]]:
    """The (method, parameters) that get `spec`'s layer densities; no method is its own control, and random has none."""
    pattern = getattr(make(spec.method, spec.params), "pattern", "unstructured")
    fields = {} if pattern == "unstructured" else {"pattern": pattern, "uneven": "dense"}
    return [
        (kind, fields)
        for kind in kinds
        if kind != spec.method and spec.method not in ("dense", "random")
    ]


def schedule(method: Method, tier: str, train: Recipe, finetune: Recipe) -> Recipe:
    """The recipe beyond the dense start: what the tier and the method make of the config's two."""
    if method.rewinds:
        finetune = train if tier == "paper" else train.model_copy(update={"epochs": finetune.epochs})
    if tier == "paper":
        finetune = Recipe.model_validate({**finetune.model_dump(), **method.paper})
    return finetune


def specify(
    name: str,
    params: dict[str, Any],
    common: dict[str, Any],
    tier: str,
    finetune: Recipe | None,
    source: RunSpec | None = None,
) -> RunSpec:
    """The spec of one run; only parameters that differ from the method's defaults enter it."""
    method = make(name, params)
    if finetune is not None:
        finetune = schedule(method, tier, common["train"], finetune)
    shown = method.model_dump(mode="json", exclude_defaults=True)
    if source is not None:
        shown["density"] = make(source.method, source.params).model_dump().get("density")
    label = (
        {k: v for k, v in shown.items() if k != "density"}
        if source is None
        else {"like": source.variant}
    )
    return RunSpec(
        method=name,
        method_version=load(name).version,
        params={k: v for k, v in shown.items() if v is not None},
        tier=tier,
        finetune=finetune,
        like=source.id if source else None,
        variant=name + (f"({', '.join(f'{k}={v}' for k, v in label.items())})" if label else ""),
        **common,
    )


__all__ = [
    "ConfigError",
    "Plan",
    "baseline",
    "check",
    "complaint",
    "expand",
    "read",
    "validate",
    "variants",
]
