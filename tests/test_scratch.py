"""Rivals of pruning at the same size: a narrower net, and the pruned shape trained from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import tidy
from bench.method import load, make, names
from bench.plan import baseline
from bench.surgery import nonzero, store
from bench.tables import controls
from bench.tables.controls import standings
from tests.test_run import do, specs, weights

SHAPES = {"unstructured": {}, "channel": {"pattern": "channel"}}


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(suite, pruned record, the record that trains its shape from scratch)."""
    suite = tmp_path_factory.mktemp("scratch")
    runs = specs({"magnitude": [SHAPES[request.param]]}, controls=("scratch",))
    _, pruned, scratch = do(suite, runs)
    return suite, pruned, scratch


def test_the_shape_is_the_pruned_one_and_no_weight_is_inherited(pair) -> None:
    suite, pruned, scratch = pair
    assert (scratch.status, scratch.spec.like) == ("ok", pruned.id)
    before, after = (weights(suite, record) for record in (pruned, scratch))
    kept = nonzero(store.load(suite / "runs" / pruned.id / "points" / "0"))
    for name, weight in after.items():
        assert weight.shape == before[name].shape
        assert not (weight != 0)[~kept[name]].any(), name
        same = torch.isclose(weight[kept[name]], before[name][kept[name]], rtol=1e-3)
        assert same.float().mean() < 0.05, name
    assert scratch.points[0].density == pytest.approx(pruned.points[0].density, rel=1e-3)


def test_it_trains_as_long_as_start_and_fine_tuning_together(pair) -> None:
    _, pruned, scratch = pair
    train, finetune = pruned.spec.train.epochs, pruned.spec.finetune.epochs
    assert sum(spent.epochs for spent in scratch.ledger) == train + finetune
    assert sum(spent.epochs for spent in pruned.ledger) == train + finetune
    assert scratch.spec.finetune.lr == pruned.spec.train.lr  # its schedule is that of a training
    assert scratch.dense == baseline(pruned.spec).id


def test_what_started_dense_is_trained_from_scratch_but_no_curve() -> None:
    methods = {"lottery_ticket": [{}], "magnitude": [{}], "smaller_dense": [{}]}
    made = specs(methods, ("magnitude", "scratch"), (0.5, 0.2))
    copied = {(run.method, made[run.like].method) for run in made.values() if run.like}
    assert copied == {
        ("magnitude", "lottery_ticket"),
        ("magnitude", "smaller_dense"),
        ("scratch", "magnitude"),
    }


def test_scratch_is_a_control_and_no_method() -> None:
    assert "scratch" not in names()
    assert load("scratch").start == "copy"


def test_a_smaller_dense_net_is_narrower_everywhere_and_drawn_for_its_width(tmp_path: Path) -> None:
    dense, small = do(tmp_path, specs({"smaller_dense": [{}]}, controls=(), densities=(0.25,)))
    before, after = (weights(tmp_path, record) for record in (dense, small))
    widths = {n: len(after[n]) / len(w) for n, w in before.items() if n != "fc.weight"}
    assert all(0.4 < share < 0.6 for share in widths.values()), widths
    assert all((weight != 0).all() for weight in after.values())
    assert small.points[0].density == pytest.approx(0.25, rel=0.1)
    assert make("smaller_dense", {}).pattern == "channel"


def test_every_method_is_compared_to_the_smaller_dense_net_of_its_density_seed_by_seed() -> None:
    folder = Path(__file__).parents[1] / "results" / "published" / "rivals" / "tables"
    points = tidy.read(folder, "points")
    rows = controls.rows(points)
    own = rows[rows["control"] == "smaller_dense"]
    methods = set(points.loc[points["like"].isna(), "variant"]) - {"dense", "smaller_dense"}
    assert set(own["variant"]) == methods
    at = points.set_index(["variant", "target_density", "seed"])["top1"]
    for row in own.to_dict("records"):
        gaps = (
            at[row["variant"], row["target_density"]] - at["smaller_dense", row["target_density"]]
        )
        assert row["difference"] == pytest.approx(gaps.mean(), abs=1e-9)
        assert row["n"] == 3
    # judged apart from the copies: their verdicts do not depend on whether the rival was run
    without = controls.rows(points[points["method"] != "smaller_dense"])
    copies = rows[(rows["control"] != "smaller_dense") & rows["variant"].isin(methods)]
    assert list(copies["p_holm"]) == pytest.approx(list(without["p_holm"]))
    told = standings(rows)
    assert "smaller_dense: better" in told["fashion_mnist", "lenet300", "equal", "magnitude", 0.1]
