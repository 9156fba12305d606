"""Results pages in a headless browser: no requests, no log messages, no overflow on a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

from pipeline.datasets.registry import open_dataset
from pipeline.report.comparison_page import write_comparison
from pipeline.report.page import write_page
from pipeline.runs.results import read_results

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing; pip install playwright"
    )
    found = os.environ.get("ENECG_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium found; install one, or set ENECG_BROWSER to its path")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox requires user namespaces, which many containers do not have.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def pages(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    dataset = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    first = read_results(make_run(root / "first", details=True))
    second = read_results(
        make_run(root / "second", details=True, dataset=dataset.namespace, records=20)
    )
    write_comparison([first, first], root / "comparison.html")
    return {
        "results": write_page(first),
        "ecgs": write_page(second, dataset=dataset),
        "comparison": root / "comparison.html",
    }


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("name", ["results", "ecgs", "comparison"])
def test_page_makes_no_requests_logs_nothing_and_fits_the_screen(
    name: str, width: int, scheme: str, browser: Any, pages: dict[str, Path]
):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    events: list[str] = []
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("request", lambda request: events.append(request.url))
    address = pages[name].as_uri()
    page.goto(address)
    assert events == [address]
    for details in page.query_selector_all("details"):
        details.evaluate("element => element.open = true")
    sizes = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert sizes == [width, width]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 20, 25)")
    empty = page.evaluate(
        "[...document.querySelectorAll('figure svg')]"
        ".filter(svg => !svg.getBoundingClientRect().height).length"
    )
    assert empty == 0
    context.close()
