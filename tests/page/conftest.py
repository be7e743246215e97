"""A page of made-up suites in a browser; nothing may be said on its console, or fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import page as leaderboard
from tests.page import suites as pages

DESK = {"viewport": {"width": 1400, "height": 1000}}
Open = Callable[..., Any]


@pytest.fixture(scope="package")
def suite(tmp_path_factory) -> Path:
    return pages.suite(tmp_path_factory.mktemp("suites") / "quick")


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
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
