"""What a config expands into: every run with all that it needs, in jobs without a cycle."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

import pytest

from bench import method as methods
from bench.plan import Plan, baseline, expand
from bench.spec import Recipe
from bench.suite import validate
from tests.configs import changed


def plan(**keys: Any) -> Plan:
    return expand(validate(changed(**keys), "test.yaml"))


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
                made_of = [methods.make(name, s.params).model_dump() for s in mine]
                if "density" not in kind.model_fields:  # what it ends at is a result
                    assert len(mine) == 1, name
                    continue
                wanted = [fields["density"] for fields in made_of]
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
            shaped = methods.load(spec.method).start == "dense" and not spec.densities
            wanted = {"random", "magnitude"} | ({"scratch"} if shaped else set())
            assert set(mine) == wanted - {spec.method}
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
