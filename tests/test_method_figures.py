"""Figures of a method's inside: from real runs, on the right axes, the same bytes each time."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import data, figures, tidy
from bench.collect import collect
from bench.figures import inside, saam, sap, style
from bench.method import names
from bench.plan import expand
from bench.run import run
from bench.suite import validate
from tests import configs

SHARED = set(figures.names(()))
INSIDE = [(name, m) for m in names() for name in figures.names([m]) if name not in SHARED]
"""Every figure of a method's inside, with each method that it shows."""
TRAIN = {"epochs": 1, "lr": 0.05, "batch_size": 64}
SCOPES = [
    {"rounds": 4, "density": None},
    {"rounds": 4, "density": None, "scope": "neuron"},
    {"rounds": 2, "density": None, "rule": "lottery_ticket"},
]


def tables(folder: Path, arch: str, methods: dict[str, Any], **keys: Any) -> Path:
    """The tidy tables of a suite that is run here, on digits."""
    task = {"architectures": [arch], "train": TRAIN, "finetune": TRAIN}
    content = configs.changed(task, methods=methods, controls=[], **keys)
    plan = expand(validate(content, "test"))
    for spec in plan.runs.values():
        run(spec, folder, data.root(None), "cpu")
    collect(folder, plan.runs)
    return folder / "tables"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Method -> the tables of its runs with its own parameters."""

    @cache
    def of(method: str) -> Path:
        folder = tmp_path_factory.mktemp(method)
        return tables(folder, "resnet8", {method: [{}]}, seeds=[0])

    return of


@pytest.fixture(scope="module")
def scopes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scopes")
    return tables(folder, "sap_linear", {"sap": SCOPES}, densities=[0.5, 0.3, 0.2, 0.1])


@pytest.fixture(scope="module")
def levels(tmp_path_factory) -> Path:
    variants = [{"sampling": "top"}, {"sampling": "top", "alpha": 0.0}, {"pattern": "channel"}]
    return tables(tmp_path_factory.mktemp("levels"), "sap_mlp", {"saam": variants})


def rounds(folder: Path):
    return sap.by_round(*(tidy.read(folder, name) for name in ("runs", "points", "history")))


def lines(axes) -> dict[str, np.ndarray]:
    """Label -> (points, 2) of every line with a label."""
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


@pytest.mark.parametrize(("figure", "method"), INSIDE)
def test_a_real_run_with_its_own_parameters_is_drawn_the_same_each_time(
    figure, method, made, tmp_path, monkeypatch
):
    monkeypatch.setattr(style, "message", lambda text, *rest: pytest.fail(f"nothing drawn: {text}"))
    for file in made(method).glob("*.csv"):
        shutil.copy(file, tmp_path)
    save, empty = style.save, []

    def watched(made, out, name):
        empty.extend(
            a.get_title() for a in made.axes for x in a.get_lines() if not len(x.get_xdata())
        )
        return save(made, out, name)

    monkeypatch.setattr(style, "save", watched)
    first = figures.draw(figure, made(method), tmp_path / "one")
    second = figures.draw(figure, tmp_path, tmp_path / "two")
    assert not empty, "a line without a point"
    assert [file.name for file in first] == [f"{figure}.pdf", f"{figure}.png"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_accuracy_stands_at_the_density_of_its_own_scope(scopes):
    """The published figure of SAP shows one scope's accuracies at another's densities."""
    table = rounds(scopes)
    part = table[table["row"].str.startswith("sap")]
    looks = dict(zip(sap.SCOPES, style.looks(sap.SCOPES).values(), strict=True))
    axes = list(style.figure(8, 2).subplots(1, 4))
    sap.panels(axes, part, looks)
    points = tidy.read(scopes, "points")
    ends = {}
    for scope, label in (("global", "sap(rounds=4)"), ("neuron", "sap(scope=neuron, rounds=4)")):
        own = points[points["variant"] == label].groupby("point")
        drawn = lines(axes[3])[f"{scope} scope"]
        assert len(drawn) == 5
        kept = own["density"].agg(lambda d: float(np.exp(np.log(d).mean())))
        assert drawn[1:, 0] == pytest.approx(kept.to_numpy())
        assert drawn[1:, 1] == pytest.approx(own["top1"].mean().to_numpy(dtype=float))
        assert drawn[0].tolist() == pytest.approx([1, own["top1_dense"].mean().mean()])
        ends[scope] = drawn[-1, 0]
    assert ends["global"] != pytest.approx(ends["neuron"], rel=0.01)
    left, right = axes[3].get_xlim()
    assert left > right  # dense on the left, as in the other figures


def test_a_round_that_a_seed_lacks_is_not_a_mean_over_the_others(scopes, tmp_path):
    runs, points, history = (tidy.read(scopes, name) for name in ("runs", "points", "history"))
    whole = sap.by_round(runs, points, history)
    run = whole.loc[whole["scope"] == "neuron", "run"].iloc[0]
    short = history[~((history["run"] == run) & (history["round"] == 4))]
    cut = sap.by_round(runs, points, short)
    last = cut.groupby(["row", "scope"])["round"].max()
    assert last["sap (p=0.5, q=1, rounds=4)", "neuron"] == 3
    assert last["sap (p=0.5, q=1, rounds=4)", "global"] == 4


def test_rows_are_named_by_what_varies(scopes, levels):
    named = set(rounds(scopes)["row"])
    assert named == {"sap (p=0.5, q=1, rounds=4)", "lottery ticket (rounds=2)"}
    points, _ = saam.final(*(tidy.read(levels, name) for name in ("runs", "points", "layers")))
    assert set(points["row"]) == {"unstructured, top", "channel"}


def test_adaptive_minus_fixed_is_paired_by_seed_and_empty_without_a_partner(levels):
    points, layers = saam.final(*(tidy.read(levels, name) for name in ("runs", "points", "layers")))
    top = points[(points["row"] == "unstructured, top") & (points["target_density"] == 0.2)]
    by_seed = top.pivot(index="seed", columns="alpha", values="top1_before").astype(float)
    gap = saam.gap(top, 1.0, "top1_before")
    assert gap.n == 2
    assert gap.difference == pytest.approx((by_seed[1.0] - by_seed[0.0]).mean())
    assert saam.gap(points[points["row"] == "channel"], 1.0, "top1").n == 0
    fixed = layers[(layers["alpha"] == 0) & (layers["step"] == -0.2)]
    assert fixed["density"].astype(float).to_numpy() == pytest.approx(0.2, abs=0.005)


def test_a_band_holds_the_interval_of_the_seeds_and_the_line_their_mean():
    import pandas as pd

    table = pd.DataFrame({"step": [0, 0, 1, 1], "x": [1, 1, 0.2, 0.8], "y": [0.5, 0.7, 0.2, 0.4]})
    axes = style.figure(2, 2).subplots()
    look = style.looks(["one"])["one"]
    assert inside.curve(axes, table, "x", "y", look, "one").tolist() == pytest.approx([0.6, 0.3])
    assert lines(axes)["one"].tolist() == [pytest.approx([1, 0.6]), pytest.approx([0.4, 0.3])]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.6 + 12.706 * 0.1, abs=1e-3)  # t of 1 degree, 97.5 %


def test_patterns_of_kernels_and_the_oracle_are_drawn_where_they_were_measured(
    tmp_path, monkeypatch
):
    """What the methods' defaults leave out: panels that are empty otherwise."""
    more = {"privacy_admm": [{"pattern": "kernel", "library": 4}], "taylor": [{"oracle": 8}]}
    folder = tables(tmp_path, "resnet8", more, seeds=[0], densities=[0.3])
    drawn = {}
    monkeypatch.setattr(style, "save", lambda made, out, name: drawn.update({name: made}) or [])
    for name in ("kernel_library", "taylor"):
        figures.draw(name, folder, tmp_path)
    images = drawn["kernel_library"].axes[1].get_images()
    assert len(images) == 4
    assert all(image.get_array().shape == (3, 3) for image in images)
    assert {int(image.get_array().sum()) for image in images} == {4}
    points = drawn["taylor"].axes[1].get_lines()[0]
    assert 0 < len(points.get_xdata()) <= 8
