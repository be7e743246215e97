"""A person with a mouse, a keyboard or a phone can use the leaderboard page, from disk, offline."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote

import pytest

from bench import page as leaderboard
from bench.tables import choice, made
from tests import pages

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DESK = {"viewport": {"width": 1400, "height": 1000}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return pages.suite(tmp_path_factory.mktemp("suites") / "quick")


@pytest.fixture(scope="module")
def files(suite) -> dict[str, Path]:
    """A page of one suite, one of two, and one with a variant that has markup in its name."""
    other, hostile = (
        pages.other(suite, suite.parent / "other"),
        pages.hostile(suite, suite.parent / "hostile"),
    )
    wanted = {"one": [suite], "two": [suite, other], "hostile": [hostile]}
    return {
        name: leaderboard.write(folders, suite.parent / f"{name}.html")[0]
        for name, folders in wanted.items()
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield started
        started.close()


@pytest.fixture
def visit(browser, files) -> Iterator[Open]:
    """Open a page; nothing may be said on its console or fetched, whatever the test does to it."""
    contexts, complaints, requests = [], [], []

    def opened(name: str, hash_: str = "", **options: Any) -> Any:
        context = browser.new_context(**(options or DESK))
        contexts.append(context)
        view = context.new_page()
        view.on("console", lambda message: complaints.append(message.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.on("requestfailed", lambda request: complaints.append(request.url))
        view.on("request", lambda request: requests.append(request.url))
        view.goto(f"{files[name].as_uri()}{hash_ and '#'}{hash_}")
        view.wait_for_selector("#plot:not(:empty)", timeout=60_000)  # the drawing, or why not
        return view

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    allowed = ("data:", "blob:", *(file.as_uri() for file in files.values()))
    assert [url for url in requests if not url.startswith(allowed)] == []


def column(view: Any, key: str) -> list[str]:
    """The texts of a column, from the top, place by place."""
    number = view.eval_on_selector(f"th[data-key={key}]", "head => head.cellIndex")
    return view.eval_on_selector_all(
        "#rows tbody:not([hidden]) tr:not(.place)",
        f"lines => lines.map(line => line.cells[{number}].textContent)",
    )


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0].lstrip("~")) for text in texts if text[0] in "~-+0123456789"]


def count(view: Any) -> int:
    return int(view.inner_text("#count").split()[0])


@contextmanager
def changed(view: Any) -> Iterator[None]:
    """Until what is done within has reached the address."""
    before = view.url
    yield
    view.wait_for_function("before => location.href !== before", arg=before)


def head(key: str) -> str:
    return f"th[data-key={key}] button"


def by_click(view: Any, key: str) -> None:
    view.click(head(key))


def by_keyboard(view: Any, key: str) -> None:
    view.focus(head(key))
    view.keyboard.press("Enter")


@pytest.mark.parametrize("press", [by_click, by_keyboard])
def test_a_header_sorts_down_then_up_then_as_before(visit, press):
    view = visit("one", "arch=resnet8")
    before = column(view, "variant")
    states = []
    for _ in range(3):
        press(view, "density")
        states.append(view.get_attribute("th[data-key=density]", "aria-sort"))
        shown = numbers(column(view, "density"))
        if states[-1] != "none":
            assert shown == sorted(shown, reverse=states[-1] == "descending")
    assert states == ["descending", "ascending", "none"]
    assert column(view, "variant") == before
    press(view, "variant")
    assert column(view, "variant") == sorted(before, key=str.lower)


def test_what_is_missing_comes_last_either_way(visit):
    view = visit("one", "arch=resnet8&controls=1")
    for order in ("descending", "ascending"):
        view.click(head("measured_speedup"))
        assert view.get_attribute("th[data-key=measured_speedup]", "aria-sort") == order
        texts = column(view, "measured_speedup")
        missing = [text == "–" for text in texts]  # noqa: RUF001
        assert any(missing)
        assert missing == sorted(missing)


def test_rows_of_two_nets_are_not_ranked_together(visit):
    view = visit("one", "sort=-value")
    assert "2 places" in view.inner_text("#notice")
    for place in view.query_selector_all("#rows tbody"):
        cells = place.query_selector_all("tr:not(.place) td:nth-child(3)")
        shown = numbers([cell.inner_text() for cell in cells])
        assert len(shown) > 10
        assert shown == sorted(shown, reverse=True)
    assert view.locator("#front ol").count() == 2  # a front for each
    with changed(view):
        view.select_option("select[name=arch]", "lstm")
    assert not view.is_visible("#notice")
    assert view.locator("#front ol").count() == 1


@pytest.mark.parametrize(
    ("name", "value"), [("family", "magnitude"), ("pattern", "2:4"), ("target_density", "0.05")]
)
def test_a_filter_leaves_its_rows_and_says_how_many(visit, name, value):
    view = visit("two", "suite=")
    every = column(view, name)
    with changed(view):
        view.select_option(f"select[name={name}]", value)
    assert column(view, name) == [value] * every.count(value)
    assert len(every) > count(view) == every.count(value) > 0
    with changed(view):
        view.click("#filters button[type=reset]")
    assert column(view, name) == every


@pytest.mark.parametrize(
    ("name", "value"),
    [("suite", "other"), ("arch", "lstm"), ("setting", "Other GPU, float32, batch 32, 2 threads")],
)
def test_suites_nets_and_devices_are_chosen_too(visit, name, value):
    view = visit("two", "suite=")
    whole = count(view)
    with changed(view):
        view.select_option(f"select[name={name}]", value)
    assert 0 < count(view) < whole
    heads = view.locator("#rows tbody:not([hidden]) .place").all_inner_texts()
    assert heads
    assert all(value in text for text in heads)
    assert not view.is_visible("select[name=dataset]")  # there is only one


def test_controls_and_words_are_searched(visit):
    view = visit("one")
    methods = count(view)
    with changed(view):
        view.check("input[name=controls]")
    assert count(view) > methods
    with changed(view):
        view.fill("input[name=q]", "like=sap RANDOM")
    assert set(column(view, "variant")) == {"random(like=sap)"}


def test_an_address_restores_the_view(visit):
    first = visit("two", "suite=")
    for act in (
        lambda: first.select_option("select[name=arch]", "resnet8"),
        lambda: first.check("input[name=controls]"),
        lambda: first.fill("input[name=q]", "sap"),
        lambda: first.select_option("#axis", "density"),
        lambda: first.click(head("efficiency")),
        lambda: first.click("#rows tbody:not([hidden]) tr:nth-child(3) button"),
    ):
        with changed(first):
            act()
    second = visit("two", first.url.split("#")[1])
    for view in (first, second):
        assert view.input_value("select[name=arch]") == "resnet8"
        assert view.input_value("#axis") == "density"
        assert view.get_attribute("th[data-key=efficiency]", "aria-sort") == "descending"
        assert view.is_visible("#details")
    assert column(second, "variant") == column(first, "variant")
    assert second.inner_text("#rows tr[aria-current=true]") == first.inner_text(
        "#rows tr[aria-current=true]"
    )
    assert second.inner_text("#details-title") == first.inner_text("#details-title")


def test_two_suites_open_at_the_larger_and_clear_shows_both(visit):
    view = visit("two")
    assert view.input_value("select[name=suite]") == "quick"
    some = count(view)
    view.click("#filters button[type=reset]")
    assert view.input_value("select[name=suite]") == ""
    assert count(view) > some
    again = visit("two", view.url.split("#")[1])
    assert count(again) == count(view)


def test_options_that_would_leave_nothing_are_off(visit):
    view = visit("two", "suite=other")
    off = view.locator("select[name=arch] option:disabled").all_inner_texts()
    assert off == ["lstm"]


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
