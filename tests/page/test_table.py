"""A person with a mouse or a keyboard can sort, filter and share the table, from disk, offline."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.page.view import changed, column, count, head, numbers

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]


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
