"""The pages as a person meets them, in headless Chromium: upload, stages, verdict, history; for all hands and eyes."""

from __future__ import annotations

import os
import re
import shutil
import time

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
)
GRAVE = ("serious", "critical")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield found
        found.close()


@pytest.fixture
def open_page(browser, server):
    """A new browser, as it were, on the start page; nothing may be asked of another server, or break a policy."""
    contexts, outside, complaints = [], [], []

    def opened(**options):
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: outside.append(request.url) if is_outside(request.url) else None)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        return page

    def is_outside(url):
        return not url.startswith((server.url, "data:"))

    opened.complaints = complaints
    yield opened
    for context in contexts:
        context.close()
    assert not outside and not complaints


def assert_accessible(page, wait: bool = True) -> None:
    """No serious or critical finding of axe; injected past the page's own policy, which forbids foreign scripts."""
    from axe_playwright_python.base import AXE_FILE_PATH

    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE_FILE_PATH.read_text()})
    asked = {"expression": "axe.run(document)", "awaitPromise": wait, "returnByValue": True}
    found = session.send("Runtime.evaluate", asked)["result"]["value"]
    grave = [
        (rule["id"], node["html"][:200], node["failureSummary"])
        for rule in found["violations"] if rule["impact"] in GRAVE for node in rule["nodes"]
    ]  # fmt: skip
    assert not grave, grave
    assert found["passes"]


def is_too_wide(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def wait_for_samples(page) -> None:
    deadline = time.monotonic() + 90
    while page.locator(".samples li").count() < 3:
        assert time.monotonic() < deadline
        page.wait_for_timeout(300)
        page.reload()


def test_a_fake_from_upload_to_verdict(open_page, server, demo_fake, tmp_path):
    page = open_page()
    wait_for_samples(page)
    assert_accessible(page)
    page.screenshot(path=tmp_path / "start.png", full_page=True)
    # the analysing process stands still while the page of the running job is looked at
    page.set_input_files("#file", demo_fake)
    page.wait_for_url("**/jobs/*")
    page.wait_for_selector(".verdict", timeout=60_000)
    for heading in ("Face", "Voice", "Lip-sync"):
        assert page.get_by_role("heading", name=heading, exact=False).count(), heading
    assert page.locator("svg.draw .bar").count() > 3, "the timeline"
    assert page.locator(".faces img").count() >= 2, "crops and their maps"
    assert_accessible(page)
    page.screenshot(path=tmp_path / "result.png", full_page=True)
    page.get_by_role("link", name="Your files").click()
    entry = page.locator(".history li").first
    assert demo_fake.name in entry.inner_text()
    page.screenshot(path=tmp_path / "history.png", full_page=True)
    entry.get_by_role("button", name="Delete").click()
    assert_accessible(page)
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/#history")
    assert page.locator(".history li").count() == 0


def test_the_job_page_tells_its_stages_and_needs_no_reload(open_page, server, upload, demo_fake, tmp_path):
    """Several wait, so that this one is seen waiting and being analysed."""
    with server.client() as other:
        for _ in range(3):
            upload(other, demo_fake.read_bytes())
        page = open_page(color_scheme="dark", viewport=PHONE)
        page.set_input_files("#file", demo_fake)
        page.wait_for_url("**/jobs/*")
        assert_accessible(page)
        assert page.locator("#stages li").all_inner_texts() == [
            "Reading the file", "Faces", "Voice", "Lip-sync", "Verdict", "Report"
        ]  # fmt: skip
        assert not is_too_wide(page)
        page.wait_for_selector("#stages [aria-current]", timeout=60_000)
        page.screenshot(path=tmp_path / "job-phone-dark.png", full_page=True)
        assert page.locator("#live").get_attribute("aria-live") == "polite"
        page.wait_for_selector(".verdict", timeout=60_000)
        assert_accessible(page)
        assert not is_too_wide(page)
        page.screenshot(path=tmp_path / "result-phone-dark.png", full_page=True)


def test_a_visitor_with_a_keyboard_and_a_phone_tries_a_sample(open_page, tmp_path):
    page = open_page(viewport=PHONE, color_scheme="dark")
    wait_for_samples(page)
    assert_accessible(page)
    assert not is_too_wide(page)
    page.screenshot(path=tmp_path / "start-phone-dark.png", full_page=True)
    focused = "document.activeElement.innerText || document.activeElement.id"
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(focused))
        if "Face swapped" in seen[-1]:
            break
    assert "file" in seen and "Face swapped" in seen[-1], seen
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f]{32}$"))
    page.wait_for_selector(".verdict", timeout=60_000)


def test_what_is_refused_is_said_on_the_page(open_page, tmp_path):
    page = open_page()
    (tmp_path / "notes.mp4").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    (tmp_path / "<b>large.mp4").write_bytes(b"\0" * 20_000_001)
    page.set_input_files("#file", [tmp_path / "notes.mp4", tmp_path / "<b>large.mp4"])
    page.wait_for_function("document.querySelectorAll('.upload.refused').length === 2")
    said = " ".join(page.locator(".upload .said").all_inner_texts())
    assert "is a zip archive" in said and "larger than 20 MB" in said
    assert page.locator(".upload b b").count() == 0, "the name is text"
    assert_accessible(page)
    page.screenshot(path=tmp_path / "refused.png", full_page=True)
    assert any("415" in text for text in open_page.complaints)
    open_page.complaints.clear()  # Chromium logs each refusal


def test_without_javascript_a_plain_form_leads_to_the_verdict(open_page, voice):
    page = open_page(java_script_enabled=False)
    page.set_input_files("#file", voice)
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url("**/jobs/*")
    page.wait_for_selector(".verdict", timeout=60_000)
