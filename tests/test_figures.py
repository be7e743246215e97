"""Figures: from tidy tables alone, the same bytes each time, legible, honest about gaps."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean

import kiwisolver
import numpy as np
import pytest

from bench import figures, tables, tidy
from bench.collect import collect
from bench.figures import curves, scales, style, trade
from tests import records

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tidy_tables(tmp_path_factory) -> Path:
    folder = records.write(tmp_path_factory.mktemp("suite"), records.suite())
    collect(folder)
    return folder / "tables"


@pytest.mark.parametrize("name", figures.names())
def test_a_figure_is_a_pdf_and_a_png_and_the_same_bytes_from_csv_alone(name, tidy_tables, tmp_path):
    for file in tidy_tables.glob("*.csv"):
        shutil.copy(file, tmp_path)
    first = figures.draw(name, tidy_tables, tmp_path / "one")
    second = figures.draw(name, tmp_path, tmp_path / "two")
    assert [file.name for file in first] == [f"{name}.pdf", f"{name}.png"]
    assert first[0].read_bytes()[:5] == b"%PDF-"
    assert first[1].read_bytes()[1:4] == b"PNG"
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


@pytest.mark.parametrize(("x", "of"), [("kept", "density"), ("effective_macs", "effective_macs")])
def test_a_curve_is_drawn_at_the_mean_of_each_round_not_at_the_densities_asked(x, of, tidy_tables):
    table = trade.rounds(tidy.read(tidy_tables, "points"))
    for arch in records.ARCHS:
        made = [item for item in records.suite() if item.spec.arch == arch]
        runs = [item for item in made if item.spec.variant == "sap"]
        drawn = {name: rows for _, name, rows in style.summed(table.query(f"arch == '{arch}'"), x)}
        assert len(drawn["sap"]) == max(len(run.points) for run in runs)
        for index, row in enumerate(drawn["sap"].to_dict("records")):
            have = [run.points[index] for run in runs if len(run.points) > index]
            assert row["x"] == pytest.approx(geometric_mean([getattr(p, of) for p in have]))
            assert row["mean"] == pytest.approx(np.mean([p.test.top1 for p in have]))
        assert len(drawn["saam"]) == len(records.DENSITIES)


def test_a_point_of_a_control_belongs_to_the_round_that_it_copies(tidy_tables):
    points = tidy.read(tidy_tables, "points")
    table = trade.rounds(points)
    many = table[table["densities"].notna()]
    copied = many[many["like"].notna()].merge(
        many, left_on=["like", "step"], right_on=["run", "step"], suffixes=("", "_own")
    )
    assert len(copied) == many["like"].notna().sum() > 0
    assert (copied["density"] == copied["density_own"]).all()
    seeds = copied.query("variant == 'random(like=sap)' and arch == 'resnet8'")
    assert seeds.groupby("seed")["step"].agg(tuple).nunique() > 1


def test_a_replay_of_the_dense_start_is_no_training_of_the_method(tidy_tables):
    runs, history = tidy.read(tidy_tables, "runs"), tidy.read(tidy_tables, "history")
    lines = curves.training(runs, history)
    assert {"pretrain", "finetune"} <= set(history["phase"].dropna())
    assert set(lines.loc[lines["phase"] == "pretrain", "method"]) == {"dense"}
    assert lines.loc[lines["method"] == "lottery_ticket", "epoch"].min() == 3


def test_without_latency_the_figure_says_so(tmp_path, monkeypatch):
    records.write(tmp_path, records.suite(seeds=1), latency=False)
    collect(tmp_path)
    said = []
    monkeypatch.setattr(style, "message", lambda text, out, name: said.append(text) or [])
    figures.draw("accuracy_latency", tmp_path / "tables", tmp_path)
    assert said
    assert "No latency was measured" in said[0]


@pytest.mark.parametrize("name", figures.names())
def test_a_suite_of_dense_nets_alone_still_draws(name, tmp_path):
    made = [item for item in records.suite(seeds=1) if item.spec.method == "dense"]
    records.write(tmp_path, made, latency=False)
    collect(tmp_path)
    assert all(
        file.stat().st_size > 1000 for file in figures.draw(name, tmp_path / "tables", tmp_path)
    )


def test_no_two_variants_look_alike():
    looks = style.looks([f"variant {i}" for i in range(80)])
    assert len(set(looks.values())) == 80


def test_letters_are_at_least_seven_points():
    import matplotlib

    sizes = (
        "font.size",
        "axes.titlesize",
        "axes.labelsize",
        "xtick.labelsize",
        "ytick.labelsize",
        "legend.fontsize",
    )
    with style.style():
        assert min(float(matplotlib.rcParams[size]) for size in sizes) >= 7


def test_the_accuracy_axis_keeps_order_and_labels_fit():
    made = style.figure(3, 2)
    axes = made.subplots()
    scales.accuracy_axis(axes, [0.1, 0.9, 0.99, 1.0], 1 / 720)
    heights = axes.transData.transform([(0, value) for value in (0.1, 0.9, 0.99, 0.995)])[:, 1]
    assert all(later - earlier > 5 for earlier, later in itertools.pairwise(heights))
    assert 3 <= len(axes.get_yticks()) <= 12


def test_an_unknown_figure_is_refused_with_the_names():
    with pytest.raises(ValueError, match="accuracy_density"):
        figures.draw("pie", Path(), Path())


def test_every_figure_and_table_has_a_caption():
    captions = {
        file.stem for file in (ROOT / "bench" / "report").glob("*.rst") if file.read_text().strip()
    }
    wanted = {{"controls": "controls_table", "wave": "wave_table"}.get(n, n) for n in tables.NAMES}
    assert wanted | set(figures.names()) | {"workflow"} <= captions


def test_importing_the_figures_does_not_import_matplotlib_or_pandas():
    heavy = "{'matplotlib', 'pandas', 'torch'}"
    code = f"import sys, bench.figures; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def nested():
    """A figure with figures in it, like that of the fields."""
    made = style.figure(6.8, 7)
    upper, lower = made.subfigures(1, 1).subfigures(2, 1, height_ratios=(4.2, 2.6))
    for axes in upper.subplots(3, 4).flat:
        axes.set_title("step")
    upper.suptitle("title", x=0.01, ha="left")
    lower.subplots().set_ylabel("error")
    return made


def places(made) -> tuple[str, ...]:
    made.draw_without_rendering()
    return tuple(v.hex() for axes in made.axes for v in map(float, axes.bbox.extents))


def test_a_layout_does_not_depend_on_where_memory_lies(monkeypatch):
    """Its solver adds terms in the order of their addresses."""
    pool = [kiwisolver.Variable() for _ in range(4000)]  # a layout takes 132
    random.Random(0).shuffle(pool)

    def variable(name):
        made = pool.pop()
        made.setName(name)
        return made

    monkeypatch.setattr(kiwisolver, "Variable", variable)
    assert len({places(nested()) for _ in range(8)}) == 1
