"""The leaderboard page has every number of the tables, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from bench import page, tables
from bench.__main__ import main
from bench.method import pattern
from bench.page.columns import verdict
from bench.page.content import content, packed, plain
from bench.page.suites import PAIRED, read
from bench.tables.cells import GROUP
from tests import records
from tests.page import suites as pages

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published"


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return pages.suite(tmp_path_factory.mktemp("suites") / "quick")


@pytest.fixture(scope="module")
def made(suite) -> pages.Page:
    file, left_out = page.write([suite])
    assert (file, left_out) == (suite / "index.html", [])
    return pages.Page(file)


@pytest.fixture(scope="module")
def frames(suite) -> dict[str, pd.DataFrame]:
    """The tables that the page is made of."""
    return {name: frame for name, (frame, _) in tables.made(suite / "tables").items()}


def keyed(page: pages.Page) -> dict[tuple, dict]:
    """The page's rows by data set, net, tier, variant and density."""
    places = page.table("places")
    return {
        (*(places[row["place"]][k] for k in GROUP), row["variant"], row["target_density"]): row
        for row in page.table("rows")
    }


def same(shown, wanted) -> bool:
    """Whether a number on the page is that of a table, to six digits."""
    if wanted is None or pd.isna(wanted):
        return shown is None
    if isinstance(wanted, str):
        return shown == wanted
    return shown == pytest.approx(float(wanted), rel=1e-5, abs=1e-12)


def check(shown: pages.Page, wanted: pd.DataFrame, stem: str) -> None:
    """Every row of the comparison is on the page with its numbers, and no other row is."""
    rows = keyed(shown)
    assert len(wanted) == len(rows) == len(shown.table("rows"))
    for row in wanted.to_dict("records"):
        own = rows[(*(row[k] for k in GROUP), row["variant"], row["target_density"])]
        assert same(own["value"], row[stem])
        assert same(own["value_half"], row[f"{stem}_half"])
        numbers = set(row) & set(own)
        assert {"density", "measured_speedup", "latency_ms", "group", "seconds"} <= numbers
        assert [name for name in numbers if not same(own[name], row[name])] == []


def test_every_number_is_that_of_the_comparison(made, frames):
    check(made, frames["comparison"], "top1")


@pytest.mark.skipif(not (PUBLISHED / "wave").exists(), reason="no suite of fields is published")
def test_errors_stand_in_the_place_of_accuracies(tmp_path):
    file, _ = page.write([PUBLISHED / "wave"], tmp_path / "wave.html")
    shown = pages.Page(file)
    check(shown, tables.made(PUBLISHED / "wave" / "tables")["comparison"][0], "relative_l2")
    assert [place["lower"] for place in shown.table("places")] == [True]
    methods = [row for row in shown.table("rows") if row["block"] == "method"]
    densest = [r["value"] for r in methods if r["target_density"] == 0.5]
    assert densest == sorted(densest)  # the least error first


def test_every_verdict_is_that_of_the_controls_table(made, frames):
    against = frames["controls"]
    rows, ends = keyed(made), made.table("ends")
    assert {"better", "tie"} & set(against["verdict"])
    for row in against.to_dict("records"):
        key = (*(row[k] for k in GROUP), row["variant"], row["target_density"])
        if pd.isna(row["target_density"]):
            found = [e for e in ends if (e["variant"], e["control"]) == (key[3], row["control"])]
            assert any(same(end["difference"], row["difference"]) for end in found)
            continue
        for name in PAIRED:
            assert same(rows[key][f"{row['control']}_{name}"], row[name])


def test_each_kind_of_control_has_a_column_that_says_what_it_is():
    file = PUBLISHED / "rivals"
    against = tables.made(file / "tables")["controls"][0]
    kinds = set(against["control"])
    told = {
        column["label"].removeprefix("vs "): column["about"]
        for column in content([read(file, PUBLISHED)])["columns"]
        if column["form"] == "verdict"
    }
    assert set(told) == kinds >= {"magnitude", "random", "scratch", "smaller_dense"}
    masks = {kind for kind, about in told.items() if "layer densities" in about}
    assert masks == {"magnitude", "random"}
    assert "layer densities" not in verdict("a later kind").about  # what it is, is not known here


def test_a_row_names_its_runs_and_they_have_its_mean(made, frames):
    wanted = frames["comparison"]
    runs, rows = made.table("runs"), keyed(made)
    for row in wanted.to_dict("records"):
        own = rows[(*(row[k] for k in GROUP), row["variant"], row["target_density"])]
        have = {runs[number]["run"]: value for number, value in own["seeds"]}
        finished = {run: value for run, value in have.items() if value is not None}
        assert set(row["runs"].split()) <= set(have)
        assert len(finished) == row["n"]
        assert len(have) == row["n"] + row["failed"] + row["unreached"]
        if finished:
            assert sum(finished.values()) / len(finished) == pytest.approx(row["top1"], rel=1e-5)


def test_links_lead_to_the_records_and_the_tables(made, suite):
    home = made.table("places")[0]["runs"]
    for run in made.table("runs"):
        assert (suite / unquote(home) / run["run"] / "record.json").is_file()
    links = [attrs["href"] for tag, attrs in made.elements if tag == "a"]
    assert {"tables/comparison.csv", "tables/comparison.md", "tables/points.csv"} <= set(links)
    assert all((suite / unquote(link)).is_file() for link in links)


def test_what_was_published_has_no_records_to_link(suite, tmp_path):
    folder = pages.copy(suite, tmp_path / "some" / "quick", {})
    shown = pages.Page(page.write([folder], tmp_path / "out" / "page.html")[0])
    assert {place["runs"] for place in shown.table("places")} == {None}
    links = [attrs["href"] for tag, attrs in shown.elements if tag == "a"]
    assert "../some/quick/tables/comparison.csv" in links
    assert all((tmp_path / "out" / link).is_file() for link in links)


def test_a_hostile_name_is_text(suite, tmp_path):
    shown = pages.Page(page.write([pages.hostile(suite, tmp_path / "bad")])[0])
    names = [row["variant"] for row in shown.table("rows")]
    assert names.count(pages.HOSTILE) == len(records.DENSITIES) * len(records.ARCHS)
    assert "img" not in [tag for tag, _ in shown.elements]
    assert [tag for tag, _ in shown.elements].count("script") == 3


def test_nothing_is_loaded_from_anywhere(made):
    policy = [a["content"] for t, a in made.elements if t == "meta" and "http-equiv" in a]
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert not re.search(r"https?:|\*|'self'", policy[0])
    for tag, attrs in made.elements:
        for name in {"src", "href", "srcset", "action", "data", "poster"} & set(attrs):
            scheme = urlsplit(attrs[name]).scheme
            assert scheme == ("data" if tag == "link" else ""), (tag, attrs)
    styles = [text for attrs, text in made.texts if not attrs]
    assert styles
    assert not any(re.search(r"url\(|@import", text) for text in styles)


def test_the_page_is_the_same_to_the_byte_in_another_process(made, suite, tmp_path):
    command = [sys.executable, "-m", "bench", "page", str(suite), "--out", "again.html"]
    done = subprocess.run(
        command, cwd=suite, env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    again = suite / "again.html"
    assert done.stdout == f"again.html: {again.stat().st_size / 1e6:.1f} MB\n"
    assert again.read_bytes() == (suite / "index.html").read_bytes()
    again.unlink()


def test_suites_stand_apart_and_the_largest_opens(suite, tmp_path):
    other = pages.other(suite, tmp_path / "other")
    both = pages.Page(page.write([other, suite], tmp_path / "both.html")[0])
    alone = [pages.Page(page.write([f], tmp_path / "one.html")[0]) for f in (other, suite)]
    places = both.table("places")
    assert both.data["opens"] == {"suite": "quick"}
    assert [page.data["opens"] for page in alone] == [{}, {}]
    assert [p["setting"].split(",")[0] for p in places] == ["Other GPU", "Some CPU", "Some CPU"]
    assert len(both.table("rows")) == sum(len(page.table("rows")) for page in alone)
    for row in both.table("rows"):
        devices = {both.table("runs")[number]["device"] for number, _ in row["seeds"][:1]}
        assert devices == {places[row["place"]]["setting"].split(",")[0]}


def test_what_has_no_accuracies_is_left_out_and_said(suite, tmp_path, capsys):
    campaign, empty = tmp_path / "campaign", tmp_path / "empty"
    (campaign / "tables").mkdir(parents=True)
    (campaign / "tables" / "speed.csv").write_text("x\n")
    empty.mkdir()
    out = tmp_path / "page.html"
    assert main(["page", str(campaign), str(empty), str(suite), "--out", str(out)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == [str(campaign), str(empty)]
    assert "untrained" in said[0]
    assert "collect" in said[1]
    assert pages.Page(out).table("places")
    assert main(["page", str(campaign), str(empty)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "index.html").exists()


def test_two_suites_of_one_name_are_refused(suite, tmp_path):
    twin = pages.copy(suite, tmp_path / suite.name, {})
    with pytest.raises(page.PageError, match=f"called {suite.name}"):
        page.write([suite, twin])


@pytest.mark.parametrize(
    ("method", "params", "wanted"),
    [
        ("magnitude", {}, "unstructured"),
        ("magnitude", {"pattern": "2:4"}, "2:4"),
        ("grasp", {}, "unstructured"),  # it has no such parameter
        ("tensor_cnn", {}, "factorised"),
        ("owl", {}, "unstructured or k-of-n"),
        ("dense", {}, None),
        ("a method whose file is gone", {}, None),
    ],
)
def test_a_pattern_is_the_one_asked_for_or_the_methods_own(method, params, wanted):
    assert pattern(method, params) == wanted


def test_packing_keeps_every_value():
    table = pd.DataFrame({
        "text": ["b", None, "a", "b", "b", "b"],
        "number": pd.array([1, None, 3, 4, 5, 6], dtype="Int64"),
        "flag": [True, False, True, True, True, True],
        "real": [0.1, float("nan"), 1e-9, 123456.7, -2.0, 3.0],
    })  # fmt: skip
    found = packed(table)
    assert found["text"] == {"texts": ["a", "b"], "at": [1, None, 0, 1, 1, 1]}
    assert found["number"] == [1, None, 3, 4, 5, 6]
    assert found["flag"] == [True, False, True, True, True, True]
    assert found["real"] == [0.1, None, 1e-9, 123457, -2, 3]
    assert type(plain(2.0)) is int
