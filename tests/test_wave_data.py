"""The wave data sets: what is drawn, how it is split, made, kept and refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from bench import data
from bench.data import DataError, wave
from bench.wave import trajectories
from bench.wave.trajectories import RECIPES, bump, draw, ricker, simulate, solver_seconds, split
from tests.data_sets import flip_byte, snapshot

PARTS = ("train", "validation", "test")


@pytest.fixture
def small(monkeypatch):
    """`wave32` in small: 20 trajectories of 4 frames with 16 x 16 nodes."""
    recipe = replace(RECIPES["wave32"], nodes=16, refine=1, trajectories=20, frames=4, size=0.1)
    monkeypatch.setitem(RECIPES, "wave32", recipe)
    return recipe


def read(root) -> wave.Fields:
    return wave.source("wave32", root).trajectories()


def test_every_recipe_is_a_data_set_and_has_its_pinned_identity(tmp_path):
    assert set(RECIPES) == set(wave.NAMES) <= set(data.names())
    found = {name: wave.source(name, tmp_path).digest()[:16] for name in wave.NAMES}
    assert found == {  # changes only with VERSION or a recipe: records of before are then of others
        "wave32": "4295c55f840ed8db",
        "wave32_neumann": "0f8774b2b127f683",
        "wave32_ricker": "2afdfd360d623ce6",
        "wave64": "5fe57948181a0427",
    }


def test_the_family_imports_nothing_heavy_and_is_never_missing():
    code = (
        "import sys; from pathlib import Path; from bench.data import wave;"
        "assert wave.source('wave32', Path('nowhere')).missing() is None;"
        "print(sorted({'torch', 'numpy', 'scipy', 'skfem'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_trajectories_are_split_disjointly_in_the_stated_shares():
    parts = split(200)
    assert [len(parts[p]) for p in PARTS] == [140, 30, 30]
    assert sorted(np.concatenate([*parts.values()])) == list(range(200))
    assert [len(v) for v in split(7).values()] == [5, 1, 1]


def test_all_recipes_share_speeds_and_sources_within_their_ranges():
    speeds, sources = draw(RECIPES["wave32"])
    assert speeds.shape == (200,)
    assert sources.shape == (200, 2)
    assert (speeds >= 0.5).all()
    assert (speeds <= 1.5).all()
    assert 0.2 <= sources.min() < 0.21 < 0.79 < sources.max() <= 0.8
    assert np.ptp(speeds) > 0.95
    for recipe in RECIPES.values():
        np.testing.assert_array_equal(draw(recipe)[0], speeds)
        np.testing.assert_array_equal(draw(recipe)[1], sources)
    assert abs(np.corrcoef(np.c_[speeds, sources].T) - np.eye(3)).max() < 0.2


def test_a_set_is_made_on_first_use_and_then_read(small, tmp_path, monkeypatch):
    first = read(tmp_path / "root")
    assert [getattr(first, p).frames.shape for p in PARTS] == [
        (14, 4, 16, 16),
        (3, 4, 16, 16),
        (3, 4, 16, 16),
    ]
    assert {a.dtype for a in vars(first.train).values()} == {np.dtype("float32")}
    card = json.loads((tmp_path / "root/wave32/wave.json").read_text())
    assert card["digest"] == first.digest
    for part in PARTS:
        listed, held = card["trajectories"][part], getattr(first, part)
        np.testing.assert_allclose(listed["speed"], held.speed, rtol=1e-6)
        np.testing.assert_allclose(listed["source"], held.source, rtol=1e-6)
        assert listed["number"] == split(20)[part].tolist()
    monkeypatch.setattr(trajectories, "simulate", None)  # nothing may be computed again
    np.testing.assert_array_equal(read(tmp_path / "root").test.frames, first.test.frames)


def test_two_roots_have_the_same_bytes_and_a_frame_lies_as_x_to_the_right_y_down(small, tmp_path):
    made = [read(tmp_path / name) for name in "ab"]
    assert snapshot(tmp_path / "a/wave32") == snapshot(tmp_path / "b/wave32")
    for frame, (x, y) in zip(made[0].train.frames[:, 0], made[0].train.source, strict=True):
        row, column = np.unravel_index(frame.argmax(), frame.shape)
        assert (row, column) == (round(float(y) * 15), round(float(x) * 15))
        expected = bump(16, np.array([x, y]), 0.1)[1:-1, 1:-1]
        np.testing.assert_allclose(frame[1:-1, 1:-1], expected, atol=1e-5)


def test_another_version_or_recipe_is_made_anew_in_its_place(small, tmp_path, monkeypatch):
    first = read(tmp_path)
    monkeypatch.setattr(trajectories, "VERSION", 2)
    second = read(tmp_path)
    assert second.digest != first.digest
    np.testing.assert_array_equal(second.train.frames, first.train.frames)
    monkeypatch.setitem(RECIPES, "wave32", replace(small, boundary="neumann"))
    third = read(tmp_path)
    assert len({first.digest, second.digest, third.digest}) == 3
    assert not np.array_equal(third.train.frames, first.train.frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".wave32.lock", "wave32"]


def test_what_was_altered_or_is_not_ours_is_refused_and_kept(small, tmp_path):
    read(tmp_path)
    folder = tmp_path / "wave32"
    flip_byte(folder / "test.npy")
    before = snapshot(folder)
    with pytest.raises(DataError, match=r"test.npy: truncated or altered.*computed again"):
        read(tmp_path)
    (folder / "test.npy").unlink()
    with pytest.raises(DataError, match=r"test.npy: no such file"):
        read(tmp_path)
    (folder / "wave.json").write_text('{"identity": {}}')
    with pytest.raises(DataError, match=r"wave.json: is no description"):
        read(tmp_path)
    assert set(snapshot(folder)) == set(before) - {"test.npy"}
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=r"Move .*wave32 away; nothing was changed"):
        read(tmp_path)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]


def test_parallel_jobs_make_it_once_and_what_a_killed_one_left_does_not_matter(
    small, tmp_path, monkeypatch
):
    (tmp_path / ".wave32.partial").mkdir()
    (tmp_path / ".wave32.partial/train.npy").write_bytes(b"half")
    calls = []

    def counted(*arguments):
        calls.append(1)
        return simulate(*arguments)

    monkeypatch.setattr(trajectories, "simulate", counted)
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(read, [tmp_path] * 4)]
    assert len(calls) == 20
    assert len({f.train.frames.tobytes() for f in found}) == 1


def test_a_root_that_takes_no_files_is_an_error_that_says_so(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"wave32: cannot be written under .*data_root that takes"):
        read(tmp_path / "file")


def test_it_is_no_set_of_labelled_images(tmp_path):
    with pytest.raises(DataError, match="fields, not of labelled images"):
        wave.source("wave64", tmp_path).read()
    assert data.describe_shape("wave64", tmp_path) == ((3, 64, 64), 1)
    assert list(tmp_path.iterdir()) == []


def test_twice_the_speed_is_the_same_wave_at_half_the_time():
    recipe = RECIPES["wave32"]
    source = np.array([0.3, 0.6])
    slow, fast = (simulate(replace(recipe, frames=9), c, source) for c in (0.7, 1.4))
    np.testing.assert_allclose(fast[:5], slow[::2], atol=2e-3)
    assert abs(fast[4] - slow[4]).max() > 0.1


def test_frames_have_no_denormals_which_a_flag_of_the_processor_would_round_otherwise():
    frame = simulate(replace(RECIPES["wave32"], frames=1), 1.0, np.array([0.2, 0.2]))[0]
    assert 0 < np.abs(frame[frame != 0]).min() >= 1e-20
    assert (frame == 0).sum() > 60 * 2  # more than the edge


def test_ricker_frames_start_when_the_source_is_silent():
    recipe = RECIPES["wave32_ricker"]
    for speed in (0.5, 1.0, 1.5):
        start = recipe.first(speed) * recipe.interval
        frequency = speed / recipe.size
        assert 3 / frequency <= start < 3 / frequency + recipe.interval + 1e-9
        assert abs(ricker(start - recipe.delay(speed), frequency)) < 1e-8
    assert recipe.first(1.0) == 30
    assert RECIPES["wave32"].first(1.0) == 0


@pytest.mark.parametrize("name", ["wave32", "wave32_ricker"])
def test_the_solver_is_timed_without_its_factorisation(name):
    recipe = replace(RECIPES[name], nodes=24, frames=6)
    cost = solver_seconds(recipe, count=2, repeats=2)
    assert (cost.count, cost.repeats) == (2, 2)
    assert min(cost.assemble, cost.factorise, cost.frame) > 0
    steps = [recipe.steps(c) for c in draw(recipe)[0][split(200)["test"][:2]]]
    assert cost.steps == pytest.approx(np.mean(steps))
    whole = 5 * cost.frame
    # the bump's start is one solve; before the first Ricker frame there are as many as 54 intervals
    assert cost.trajectory > (3 if name == "wave32_ricker" else 1) * whole
    assert math.isfinite(cost.trajectory)
