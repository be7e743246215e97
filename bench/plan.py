"""From a suite to its runs: expansion, dependencies and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.method import Method, load, make
from bench.spec import Recipe, RunSpec, slug
from bench.suite import Config, Control, recipe, variants


@dataclass(frozen=True)
class Plan:
    """Every run of a config, and what each needs."""

    config: Config
    runs: dict[str, RunSpec]
    needs: dict[str, tuple[str, ...]]

    @cached_property
    def batches(self) -> dict[str, tuple[str, ...]]:
        """Job name -> the runs that one process does one after the other.

        A batch holds runs of one method on one pair that need the same kind of predecessor, so
        batches depend on each other as their runs do, without a cycle.
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
        """The runs whose points the latency job of `pair` measures.

        Those of the first seed, without controls.
        """
        arch, dataset = self.pairs[pair]
        first = min(self.config.seeds)
        return tuple(
            run
            for run, s in self.runs.items()
            if (s.arch, s.dataset, s.seed) == (arch, dataset, first) and s.like is None
        )


def expand(config: Config) -> Plan:
    """All runs of `config`, and what each needs.

    Every parameter set x pair x density x seed, with its dense baseline and its controls.
    """
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
    """The dense run that `spec` starts from and is compared to; the same one in both tiers."""
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
    """`params` once for every density.

    Only once, with the lowest, where one run yields the whole curve.
    """
    method = load(name)
    if "density" not in method.model_fields or "density" in params:
        return [params]
    wanted = (min(config.densities),) if method.iterative else config.densities
    return [{**params, "density": density} for density in wanted]


def controls(spec: RunSpec, kinds: tuple[Control, ...]) -> list[tuple[str, dict[str, Any]]]:
    """The (method, parameters) that get `spec`'s layer densities, or its shape.

    No method is its own control, and random has none. A shape is trained from scratch where the
    method started from the dense net (others trained it so), and not for each point of a curve.
    """
    pattern = getattr(make(spec.method, spec.params), "pattern", "unstructured")
    fields = {} if pattern == "unstructured" else {"pattern": pattern, "uneven": "dense"}
    if spec.method in ("dense", "random"):
        return []
    shaped = load(spec.method).start == "dense" and not spec.densities
    return [
        (kind, {} if kind == "scratch" else fields)
        for kind in kinds
        if kind != spec.method and (shaped or kind != "scratch")
    ]


def schedule(method: Method, tier: str, train: Recipe, finetune: Recipe) -> Recipe:
    """The recipe beyond the dense start: what the tier and the method make of the config's two."""
    if method.rewinds or method.start != "dense":
        finetune = (
            train if tier == "paper" else train.model_copy(update={"epochs": finetune.epochs})
        )
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
        asked = make(source.method, source.params).model_dump().get("density")
        shown["density"] = asked if isinstance(asked, float) else None
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
