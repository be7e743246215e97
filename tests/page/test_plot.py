"""A person with a mouse, a keyboard or a phone sees what is behind a point, from disk, offline."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote

import pytest

from bench.tables import choice, made
from tests.page import suites as pages
from tests.page.view import changed, column, count

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


def rightmost(view: Any) -> tuple[float, float]:
    """The middle of the point furthest to the right."""
    view.locator("#plot").scroll_into_view_if_needed()
    view.evaluate("document.fonts.ready")
    return view.evaluate(
        """() => [...document.querySelectorAll("#plot .points path.point")]
            .map(mark => mark.getBoundingClientRect()).filter(box => box.width > 6)
            .map(box => [box.x + box.width / 2, box.y + box.height / 2])
            .sort((a, b) => b[0] - a[0])[0]"""
    )


def test_a_point_says_its_runs_and_a_click_shows_what_is_behind_them(visit, suite):
    view = visit("one", "arch=resnet8")
    view.mouse.move(*rightmost(view))
    box = view.wait_for_selector("#plot .hoverlayer .hovertext")
    said = box.text_content()
    runs = [run.name for run in (suite / "runs").iterdir() if run.name in said]
    assert runs
    assert all("resnet8" in run for run in runs)
    view.mouse.down()
    view.mouse.up()
    view.wait_for_selector("#details[open]")
    title = view.inner_text("#details-title")
    variant, density = title.split(" at density ")
    assert variant in said
    assert view.locator("#rows tr[aria-current=true]").count() == 1
    assert view.inner_text("#rows tr[aria-current=true] th") == variant
    assert view.inner_text("#rows tr[aria-current=true] td:nth-child(2)") == density
    links = view.locator("#details-body li a").all()
    assert {link.inner_text() for link in links} == set(runs)
    for link in links:
        record = suite.parent / unquote(link.get_attribute("href"))
        assert f'"{link.inner_text()}"' in record.read_text()


def test_the_details_are_reached_and_left_by_keyboard(visit):
    view = visit("one", "arch=resnet8&target_density=0.1")
    view.focus("#rows tbody:not([hidden]) tr:nth-child(2) button")
    view.keyboard.press("Enter")
    assert view.is_visible("#details")
    assert view.evaluate("document.activeElement.id") == "close"
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.closest('#details') !== null")
    view.keyboard.press("Escape")
    assert not view.is_visible("#details")
    assert "row=" not in view.url
    assert view.evaluate("document.activeElement.textContent") == column(view, "variant")[0]


def test_a_click_in_the_plot_leaves_the_focus_at_its_row(visit):
    view = visit("one", "arch=resnet8")
    view.mouse.click(*rightmost(view))
    view.wait_for_selector("#details[open]")
    variant, density = view.inner_text("#details-title").split(" at density ")
    assert view.inner_text("#rows tr[aria-current=true] th") == variant
    before = view.evaluate("window.scrollY")
    view.keyboard.press("Escape")
    focused = "document.activeElement.closest('tr')?"
    assert view.evaluate(f"document.activeElement.tagName + {focused}.cells[0].textContent") == (
        f"BUTTON{variant}"
    )
    assert view.evaluate(f"{focused}.cells[1].textContent") == density
    assert view.evaluate("window.scrollY") == before  # the plot stays in view
    assert view.locator("#rows [aria-current]").count() == 0


def test_where_the_row_is_gone_the_focus_goes_to_the_table(visit):
    view = visit("one", "arch=resnet8")
    view.click("#rows tbody:not([hidden]) tr:nth-child(2) button")
    view.fill("input[name=q]", "no-such-run")
    view.click("#close")
    assert view.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Rows")


def test_the_plot_is_a_group_with_a_name_and_says_the_way_by_keyboard(visit):
    view = visit("one")
    plot = view.get_by_role("group", name="Scatter plot of the rows shown")
    assert plot.count() == 1
    way = view.inner_text(f"#{plot.get_attribute('aria-describedby')}")
    assert "a row of the table" in way
    assert "within each suite, data set, net and budget" in view.inner_text(
        "section[aria-label=Table] .hint"
    )


def test_an_entry_of_the_front_leads_to_its_row_and_back(visit):
    view = visit("one", "arch=resnet8")
    view.focus("#front li:last-child button")
    wanted = view.inner_text("#front li:last-child button").replace(" at ", " at density ")
    view.keyboard.press("Enter")
    assert view.inner_text("#details-title") == wanted
    box, row = (
        view.locator(css).bounding_box() for css in (".scroll:has(#rows)", "tr[aria-current]")
    )
    assert box["y"] <= row["y"] <= box["y"] + box["height"]
    view.keyboard.press("Escape")
    variant = view.evaluate("document.activeElement.closest('th')?.textContent")
    assert variant == wanted.split(" at ")[0]


def test_every_control_is_reached_by_tab(visit):
    view = visit("one")
    wanted = view.locator("#filters :is(select, input, button):visible").count()
    view.keyboard.press("Tab")
    reached = set()
    for _ in range(wanted):
        reached.add(view.evaluate("document.activeElement.name || document.activeElement.type"))
        view.keyboard.press("Tab")
    assert reached == {"arch", "family", "target_density", "q", "controls", "reset"}


def test_the_front_is_that_of_the_tables(visit, suite):
    view = visit("one", "arch=resnet8&x=measured_speedup")
    compared = made(suite / "tables")["comparison"][0]
    wanted = choice.front(compared[compared["arch"] == "resnet8"])
    labels = view.locator("#front li button").all_inner_texts()
    assert labels == [
        f"{row['variant']} at {row['target_density']:g}" for row in wanted.to_dict("records")
    ]


def test_each_axis_has_its_numbers(visit):
    view = visit("one", "arch=resnet8")
    for axis in view.locator("#axis option").all():
        value, title = axis.get_attribute("value"), axis.inner_text()
        view.select_option("#axis", value)
        view.wait_for_function(
            "title => document.querySelector('#plot .xtitle')?.textContent === title", arg=title
        )
        assert view.locator("#plot .points path.point").count() > 20
    assert view.input_value("#axis") == "kib"


def test_rows_below_the_edge_are_counted_until_the_whole_range_is_asked_for(visit):
    view = visit("one", "arch=resnet8&controls=1")
    view.wait_for_selector("#plot .ytick text")
    ticks = "[...document.querySelectorAll('#plot .ytick text')].map(one => +one.textContent)"
    before = min(view.evaluate(ticks))
    assert "below the lower edge" in view.inner_text("#caption")
    view.check("#whole")
    assert "below the lower edge" not in view.inner_text("#caption")
    view.wait_for_function(f"before => Math.min(...{ticks}) < before", arg=before)


def test_where_no_row_is_left_the_plot_says_so_and_comes_back(visit):
    view = visit("one", "arch=resnet8&q=no-such-run")
    assert count(view) == 0
    assert "No row" in view.inner_text("#plot")
    with changed(view):
        view.fill("input[name=q]", "")
    view.wait_for_function("document.querySelectorAll('#plot path.point').length > 20")


def test_the_download_has_the_rows_shown_in_their_order(visit, suite):
    view = visit("one", "arch=lstm&sort=density")
    with view.expect_download() as started:
        view.click("#download")
    text = Path(started.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["variant"] for row in rows] == column(view, "variant")
    compared = made(suite / "tables")["comparison"][0].set_index(
        ["arch", "variant", "target_density"]
    )
    for row in rows:
        wanted = compared.loc[(row["arch"], row["variant"], float(row["target_density"]))]
        assert row["runs"].split()[: wanted["n"]] == wanted["runs"].split()[: wanted["n"]]
        assert float(row["value"] or "nan") == pytest.approx(wanted["top1"], rel=1e-5, nan_ok=True)


def test_a_hostile_name_is_shown_and_not_obeyed(visit):
    view = visit("hostile", f"q={quote_plus(pages.HOSTILE)}&arch=resnet8")
    assert set(column(view, "variant")) == {pages.HOSTILE}
    view.click("#rows tbody:not([hidden]) tr:nth-child(2) button")
    assert pages.HOSTILE in view.inner_text("#details-title")
    view.keyboard.press("Escape")
    view.mouse.move(*rightmost(view))
    said = view.wait_for_selector("#plot .hoverlayer .hovertext").text_content()
    assert pages.HOSTILE in said
    assert view.locator("img[src=x]").count() == 0


def test_a_phone_scrolls_the_table_and_not_the_page(visit):
    view = visit("two", "suite=", **PHONE)
    width = "document.documentElement.scrollWidth"
    assert view.evaluate(width) == 390
    scroll = "document.querySelector('.scroll')"
    assert view.evaluate(f"{scroll}.scrollWidth > 2 * {scroll}.clientWidth")
    view.evaluate(f"{scroll}.scrollLeft = 600")
    edge = view.evaluate(
        f"document.querySelector('#rows tr:not(.place) th[scope=row]').getBoundingClientRect().x"
        f" - {scroll}.getBoundingClientRect().x"
    )
    assert 0 <= edge < 3  # the first column stays
    view.locator("#rows tbody:not([hidden]) tr:nth-child(2) button").first.tap()
    assert view.is_visible("#details")
    assert view.evaluate(width) == 390
    panel = view.locator("#details").bounding_box()
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= 390
