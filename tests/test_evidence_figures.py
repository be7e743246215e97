"""The figures of evidence: what is drawn is what the tables say, seed by seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from bench import figures, tidy
from bench.collect import collect
from bench.figures import (
    cost_accuracy,
    facets,
    heat,
    labels,
    layer_density,
    scales,
    style,
    tie_groups,
    trade,
)
from bench.figures.multiples import NOTHING
from bench.tables import choice, comparison, controls
from bench.tables.cells import GROUP, cells
from tests import records

EVIDENCE = ("accuracy_density", "accuracy_latency", "accuracy_macs", "tie_groups", "layer_density",
            "cost_accuracy")  # fmt: skip
Drawn = Callable[..., Any]


def collected(folder: Path, made: list[Any], latency: bool = True) -> Path:
    records.write(folder, made, latency)
    collect(folder)
    return folder / "tables"


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    return collected(tmp_path_factory.mktemp("usual"), records.suite())


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """27 variants."""
    return collected(tmp_path_factory.mktemp("many"), records.suite(extra=True))


@pytest.fixture
def drawn(monkeypatch) -> Drawn:
    """Draws a figure and returns it, laid out."""

    def draw(name: str, folder: Path) -> Any:
        kept: list[Any] = []
        monkeypatch.setattr(style, "save", lambda made, out, name: kept.append(made) or [])
        figures.draw(name, folder, folder)
        kept[0].draw_without_rendering()
        return kept[0]

    return draw


def compared(folder: Path) -> pd.DataFrame:
    points = tidy.read(folder, "points")
    return comparison.rows(cells(points), points, tidy.read(folder, "latency"))


def titled(made: Any, title: str) -> Any:
    """The part of a figure with that title."""
    return next(part for part in made.subfigs if part.get_suptitle() == title)


def dots(axes: Any, label: str = trade.SEED) -> np.ndarray:
    """(n, 2) of all marks with that label."""
    found = [line.get_xydata() for line in axes.get_lines() if line.get_label() == label]
    return np.concatenate(found) if found else np.empty((0, 2))


def notes(axes: Any) -> list[str]:
    return [text.get_text().replace("\n", "") for text in axes.texts]


@pytest.mark.parametrize("column", ["kept", "effective_macs"])
def test_every_seed_is_a_dot_where_it_was_measured(column, usual, drawn):
    made = drawn("accuracy_density" if column == "kept" else "accuracy_macs", usual)
    table = trade.rounds(tidy.read(usual, "points"))
    for axes in made.axes:
        arch = axes.get_title(loc="left").split(", ")[1]
        own = table[(table["arch"] == arch) & (table["block"] == "method")]
        found = dots(axes)
        assert sorted(found[:, 1]) == pytest.approx(sorted(own["score"].astype(float)))
        if column == "kept":  # variants step aside, by less than to another density
            assert np.abs(np.log2(np.sort(found[:, 0]) / np.sort(own[column]))).max() < 0.25
        else:
            assert np.sort(found[:, 0]) == pytest.approx(np.sort(own[column].astype(float)))


def test_of_many_variants_each_is_named_once_and_no_panel_has_more_than_its_colours(many, drawn):
    made = drawn("accuracy_density", many)
    wanted = {*records.SKILL, *records.CURVES, *records.EXTRA}
    for part in made.subfigs:
        named = [name for axes in part.axes for name in notes(axes)]
        assert sorted(named) == sorted(name.replace(", ", ",") for name in wanted)
        assert max(len(notes(axes)) for axes in part.axes) <= len(style.COLOURS)


def test_so_many_places_show_the_best_of_each(many):
    part = trade.rounds(tidy.read(many, "points")).query("arch == 'resnet8'")
    (only,) = facets.facets(part, places=20)
    means = part[part["block"] == "method"].groupby("variant")["score"].mean()
    assert set(only.variants) == set(means.nlargest(len(style.COLOURS)).index)


def test_tie_groups_are_those_of_the_comparison_and_the_best_are_shaded(usual, drawn):
    made, table = drawn("tie_groups", usual), compared(usual)
    copies = controls.rows(tidy.read(usual, "points"))
    seeds = cells(tidy.read(usual, "points"))
    for arch, density in itertools.product(records.ARCHS, records.DENSITIES):
        part = titled(made, f"digits, {arch}")
        axes = next(a for a in part.axes if a.get_title(loc="left") == f"{100 * density:g} % kept")
        place = (table["arch"] == arch) & (table["target_density"] == density)
        own = table[place & (table["block"] == "method") & (table["n"] > 0)].set_index("variant")
        rows = [label.get_text() for label in part.axes[0].get_yticklabels()]
        letters = {rows[round(t.xy[1])]: t.get_text() for t in axes.texts if t.xy[0] > 1}
        assert letters == own["group"].fillna("").to_dict()
        shaded = {rows[round(patch.get_y() + 0.5)] for patch in axes.patches}
        assert shaded == set(own.index[own["best"]])
        left = axes.get_xlim()[0]
        mine = (seeds["arch"] == arch) & (seeds["target_density"] == density)
        shown = seeds[mine & (seeds["block"] == "method") & (seeds["score"] >= left)]
        assert sorted(dots(axes)[:, 0]) == pytest.approx(sorted(shown["score"].astype(float)))
        mine = (copies["arch"] == arch) & (copies["target_density"] == density)
        ticks = copies[mine & (copies["control"] == "random") & (copies["top1_control"] >= left)]
        found = dots(axes, "random, same layer densities")
        assert sorted(found[:, 0]) == pytest.approx(sorted(ticks["top1_control"]))


def test_rows_are_ordered_by_the_mean_over_the_densities(usual):
    table = compared(usual).query("arch == 'resnet8' and block == 'method' and n > 0")
    order = tie_groups.ordered(table, tie_groups.measures.named(table))
    means = table.groupby("variant")["top1"].mean()
    assert all(means[better] >= means[worse] for better, worse in itertools.pairwise(order))
    assert set(order) == set(table["variant"])


def test_a_heat_map_holds_the_mean_density_of_every_layer(usual, drawn):
    made, points = drawn("layer_density", usual), tidy.read(usual, "points")
    layers = tidy.read(usual, "layers")
    own = cells(points).query("block == 'method' and arch == 'resnet8' and point.notna()")
    joined = own.merge(layers, on=["run", "point"], suffixes=("", "_layer"))
    wanted = joined.groupby(["variant", "target_density"])["density_layer"].mean()
    part = titled(made, "digits, resnet8")
    variants = [label.get_text() for label in part.axes[0].get_yticklabels()]
    seen = 0
    for axes in part.axes[: len(records.DENSITIES)]:
        density = float(axes.get_title(loc="left").split(" ")[0]) / 100
        values = axes.collections[0].get_array()
        texts = [text.get_text() for text in axes.texts]
        for variant, value, text in zip(variants, values[:, 0], texts, strict=True):
            if (variant, density) in wanted.index:
                assert value == pytest.approx(wanted[variant, density])
                assert float(text) == pytest.approx(100 * value, rel=0.05)
                seen += 1
            else:
                assert np.ma.is_masked(value)
                assert text == ""
    assert seen == len(wanted) > 0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "×"), (1.0, "all"), (np.nan, ""), (0.5, "50"), (0.999, "99.9"), (0.00049, "0.049")],  # noqa: RUF001
)
def test_a_cell_says_what_is_left(share, text):
    assert layer_density.text(share) == text


def test_a_layer_without_weights_has_no_colour():
    axes = style.figure(3, 2).subplots()
    mesh = heat.cells(axes, np.array([[0.0, 1.0]]), [["", ""]], least=0.1)
    assert np.ma.getmaskarray(mesh.get_array()).tolist() == [[True, False]]


def test_layers_stand_in_the_order_of_the_net(usual):
    points, layers = tidy.read(usual, "points"), tidy.read(usual, "layers")
    deeper = pd.concat([layers, layers.assign(layer="a.weight", density=1.0)])
    found = layer_density.shares(points, deeper.sort_values(["run", "point"], kind="stable"))
    for _, own in found.groupby([*GROUP, "variant", "target_density"]):
        assert own["layer"].tolist() == ["conv1.weight", "a.weight"]


def test_costs_are_beyond_the_dense_start_with_the_range_of_the_seeds(usual, drawn):
    part = titled(drawn("cost_accuracy", usual), "digits, resnet8")
    table = cells(tidy.read(usual, "points")).query("arch == 'resnet8'")
    spent = table["seconds_score"] + table["seconds_prune"] + table["seconds_finetune"]
    table = table.assign(spent=spent)
    for axes, density in zip(part.axes, records.DENSITIES, strict=True):
        own = table[(table["target_density"] == density) & (table["block"] == "method")]
        assert sorted(dots(axes)[:, 1]) == pytest.approx(sorted(own["score"].astype(float)))
        assert np.sort(dots(axes)[:, 0]) == pytest.approx(np.sort(own["spent"].astype(float)))
        spans = [line.get_xdata() for line in axes.lines if line.get_label() == cost_accuracy.SPAN]
        ranges = own.groupby("variant")["spent"].agg(["min", "max"]).to_numpy(dtype=float)
        assert np.sort(np.array(spans), axis=0) == pytest.approx(np.sort(ranges, axis=0))


def test_the_front_is_that_of_what_to_deploy_and_is_named(usual, drawn):
    made, table = drawn("accuracy_latency", usual), compared(usual)
    for part in made.subfigs:
        (axes,) = part.axes
        arch = part.get_suptitle().split(", ")[1]
        front = choice.front(table[table["arch"] == arch]).sort_values("measured_speedup")
        line = dots(axes, "no other is both faster and better")
        assert line == pytest.approx(front[["measured_speedup", "top1"]].to_numpy(dtype=float))
        named = {
            "dense" if row.block == "dense" else f"{row.variant}, {100 * row.target_density:g} %"
            for row in front.itertuples()
        }
        assert named & set(notes(axes)), "the first of them always finds room"
        assert "Some CPU, float32, batch 32" in axes.get_xlabel()


@pytest.mark.parametrize("name", EVIDENCE)
def test_one_seed_and_one_variant_are_enough(name, tmp_path, drawn):
    made = [r for r in records.suite(seeds=1) if r.spec.variant in ("dense", "magnitude")]
    assert drawn(name, collected(tmp_path, made)).axes


@pytest.mark.parametrize("name", EVIDENCE)
def test_where_all_runs_failed_the_figure_says_that_there_is_nothing(name, tmp_path, monkeypatch):
    made = [
        item if item.spec.method == "dense"
        else item.model_copy(update={"status": "failed", "reason": "nan", "points": ()})
        for item in records.suite(seeds=1)
    ]  # fmt: skip
    said: list[str] = []
    monkeypatch.setattr(style, "message", lambda text, out, name: said.append(text) or [])
    figures.draw(name, collected(tmp_path, made), tmp_path)
    assert said
    assert said[0] == NOTHING or "No latency" in said[0]


@pytest.mark.parametrize("name", EVIDENCE)
def test_no_letter_is_smaller_than_seven_points(name, many, drawn):
    sizes = {text.get_fontsize() for text in drawn(name, many).findobj(Text) if text.get_text()}
    assert min(sizes) >= 7


def test_names_at_the_right_keep_their_order_and_their_distance():
    wanted = [0.5, 0.5, 0.51, 0.9, 0.95]
    found = labels.spread(wanted, [0.1] * 4)
    assert all(later - earlier > 0.0999 for earlier, later in itertools.pairwise(found))
    assert labels.spread([0.1, 0.4, 0.8], [0.1, 0.1]) == pytest.approx([0.1, 0.4, 0.8])
    crowded = labels.spread([0.5] * 30, [0.1] * 29)
    assert 0 <= crowded[0] < crowded[-1] <= 1
    assert np.diff(crowded) == pytest.approx(1 / 29)


def test_names_around_marks_hide_neither_each_other_nor_a_mark():
    rng = np.random.default_rng(0)
    made = style.figure(4, 3)
    axes = made.subplots()
    marks = [(float(x), float(y)) for x, y in rng.random((15, 2))]
    axes.plot(*np.array(marks).T, "o")
    names = [labels.Name(f"method {i}", x, y) for i, (x, y) in enumerate(marks)]
    left = labels.around(axes, names, marks)
    written = [text for text in axes.texts if text.get_text()]
    assert len(written) + len(left) == len(names)
    assert len(written) > 10
    made.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in written]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    dots_ = axes.transData.transform(marks)
    assert not any(box.count_contains(dots_) for box in boxes)


def test_a_name_breaks_where_it_can():
    assert labels.wrapped("gradual_magnitude", 10) == "gradual_\nmagnitude"
    assert labels.wrapped("sap(p=1.0, q=2.0)", 10) == "sap(p=1.0,\nq=2.0)"
    assert labels.wrapped("magnitude(allocation=erk)", 10) == "magnitude(\nallocation=\nerk)"
    assert labels.wrapped("snip", 10) == "snip"


def test_collapsed_nets_do_not_stretch_an_axis_that_the_others_share():
    good = [0.90, 0.91, 0.92, 0.915, 0.905, 0.93] * 4
    assert scales.fenced([*good, 0.1], 1e-4) == good
    assert scales.fenced(good, 1e-4) == good
    few = [0.9, 0.91, 0.1]
    assert scales.fenced(few, 1e-4) == few
