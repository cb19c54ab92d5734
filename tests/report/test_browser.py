"""The page in a browser: nothing that its policy forbids, values under the pointer, a play head, no barriers."""

import shutil
from dataclasses import replace

import pytest

from avdetect.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium")


@pytest.fixture(scope="module")
def browser():
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(two_faces, tmp_path_factory) -> str:
    analysis, pictures = two_faces
    path = tmp_path_factory.mktemp("page") / "report.html"
    hostile = '"><img src=x onerror=alert(1)>.mp4'
    write_report(replace(analysis.verdict, path=hostile), pictures, path)
    return path.as_uri()


def opened(browser, address, **options):
    """A page at the address, and the list to which its complaints and requests go."""
    page, heard = browser.new_context(**options).new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if request.url.startswith("http") else None)
    page.goto(address)
    return page, heard


def test_values_follow_pointer_slider_and_sound(browser, address):
    page, heard = opened(browser, address, viewport={"width": 1000, "height": 900})
    told, areas = page.locator(".plot output"), page.locator(".plot svg.area")
    areas.first.scroll_into_view_if_needed()
    areas.first.hover(position={"x": 5, "y": 20})
    assert told.first.text_content().startswith("0:00.0–0:01.0: Face 0.")
    spectrogram = page.locator("svg[data-bands]")
    page.wait_for_timeout(200)  # its picture is decoded
    box = spectrogram.bounding_box()
    spectrogram.hover(position={"x": box["width"] / 2, "y": box["height"] - 3})
    level = told.nth(1).text_content()
    assert " Hz, " in level and level.endswith(" dB below the loudest") and level.startswith("0:01.2")
    curve = page.get_by_role("slider", name="Offset of the sound in milliseconds")
    curve.focus()
    curve.press("End")
    assert "+600 ms: distance" in curve.get_attribute("aria-valuetext")
    areas.first.click(position={"x": 0.75 * areas.first.bounding_box()["width"], "y": 20})
    page.locator(".clock line.head[visibility=visible]").first.wait_for(state="attached")
    heads = page.locator(".clock line.head").evaluate_all("all => all.map(one => one.getAttribute('x1'))")
    assert len(heads) >= 5 and {round(float(at.rstrip("%"))) for at in heads} == {75}
    assert heard == []


def test_without_a_script_nothing_is_missing(browser, address):
    page, heard = opened(browser, address, java_script_enabled=False)
    for words in ("The same as numbers", "What the score means", "Mel-spectrogram", "To cite"):
        assert page.get_by_text(words).count(), words
    assert page.locator("audio[controls]").count() == 1 and page.locator(".parts-to-play").is_hidden()
    assert heard == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 390)])
def test_no_barriers_and_no_sideways_scrolling(browser, address, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page, _ = opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 800})
    found = axe.Axe().run(page).response["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
    ] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_on_paper(browser, address):
    page, _ = opened(browser, address)
    printed = page.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF") and 3 <= printed.count(b"/Type /Page\n") <= 12
