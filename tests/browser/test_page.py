"""The emulator's page, in a real browser, against a real receiver."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from flowhook import samples
from flowhook.cli.run import free_port
from flows_emulator import local
from flows_emulator.client import Emulator
from tests.support.receiver import SECRET, Receiver, until

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
PATIENCE = 15_000
PLACES = {
    "settings/integrations": "Integrations",
    "send": "Send",
    "deliveries": "Deliveries",
    "deliveries?delivery=1": "Deliveries",
}
OVERFLOWING = "[...document.querySelectorAll('.card')].filter(e => e.scrollWidth > e.clientWidth).length"
HOSTILE = {
    "operationType": "<img src=x onerror=window.hit=1>",
    "entityPath": "users/\u202e<script>window.hit=1</script>",
    "data": {
        "value": {"properties": {"html": "</pre><script>window.hit=1</script>", "long": "x" * 1_000_000}}
    },
}


def browser_path() -> str:
    """Chromium, or a skip that says that there is none; with REQUIRE_EMULATOR=1 its absence is a failure."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("REQUIRE_EMULATOR") == "1":
        pytest.fail("Chromium is not installed: apt-get install chromium")
    return found or pytest.skip("Chromium is not installed")


# Of this module alone: while it runs, no other test could run a loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = browser_path()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=[f"--{option}" for option in (*OPTIONS, "disable-component-update")]
        )
        yield started
        started.close()


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with local.emulator(tmp_path / "data", "--host", "127.0.0.1") as started:
        yield started


@pytest.fixture
def page(browser: Browser, emulator: Emulator) -> Iterator[Page]:
    """The page; a test in which the browser finds a mistake in it fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    mistakes: list[str] = []
    opened.on("pageerror", lambda error: mistakes.append(str(error)))
    opened.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(emulator.url)
    yield opened
    context.close()
    assert [m for m in mistakes if "the server responded with a status of" not in m] == []
    assert [url for url in asked if not url.startswith(emulator.url)] == []


def raw(page: Page) -> dict[str, object]:
    shown: dict[str, object] = json.loads(
        page.get_by_role("region", name="Form RAW Response, JSON").inner_text()
    )
    return shown


def test_the_steps_of_the_guide_from_start_to_end(page: Page, emulator: Emulator, running: Receiver) -> None:
    expect(page.get_by_role("heading", name="No integration yet")).to_be_visible()
    page.get_by_role("link", name="Integrations").click()
    page.get_by_role("tab", name="Webhook").click()
    page.get_by_role("button", name="Add integration").click()
    page.get_by_label("Integration provider").select_option("Flows API webhook")
    page.get_by_label("Webhook URL").fill(running.url)
    page.get_by_label("All Packet events").check()
    page.get_by_label("All deleted").check()
    page.get_by_label("users.created").check()
    page.get_by_label("pipelines.deleted").uncheck()
    page.get_by_label("Secret", exact=True).fill(SECRET.decode())
    # Live, before it is saved.
    expect(page.get_by_role("region", name="Form RAW Response, JSON")).to_contain_text('"users": [')
    assert emulator.state()["integrations"] == []
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()

    [saved] = emulator.state()["integrations"]
    ticked = {t for t in samples.TYPES if t.startswith("packets.") or t.endswith(".deleted")} | {
        "users.created"
    }
    assert set(saved["events"]) == ticked - {"pipelines.deleted"}
    expect(page.get_by_role("region", name="Form RAW Response, JSON")).to_contain_text(saved["updateTime"])
    assert raw(page) == emulator.raw(saved["id"])
    assert {"softRemoved", "status", "integrationProvider"} <= set(raw(page))
    assert SECRET.decode() not in page.content()

    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_label("Event", exact=True).select_option("packets.updated")
    expect(page.get_by_label("Body")).to_have_value(re.compile('"updated"'))
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("link", name="#1 200").click()
    expect(page.get_by_role("heading", name="#1 packets.updated")).to_be_visible()
    expect(page.get_by_text('"outcome": "handled"')).to_be_visible()
    expect(page.locator("dd", has_text="••••••••")).to_be_visible()
    assert running.deliveries()[-1]["event_type"] == "packets.updated"

    page.get_by_role("link", name="Integrations").click()
    page.get_by_label("Secret", exact=True).fill("another-secret-altogether")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("link", name="#2 401")).to_be_visible()


def test_an_edited_event_is_sent_as_it_is_and_one_that_was_captured_again(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(running.url, SECRET.decode())
    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_label("Body").fill(samples.load("users.created").decode())
    page.get_by_label("Body").press("Control+Enter")
    page.get_by_role("link", name="#1 200").click()
    assert emulator.delivery(1).body.encode() == samples.load("users.created")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name="#2 users.created")).to_be_visible()
    assert emulator.wait([2])[0].body == emulator.delivery(1).body
    page.get_by_role("link", name="Edit and send").click()
    expect(page.get_by_label("Body", exact=True)).to_have_value(re.compile('"users/us-ada"'))
    page.get_by_label("Body").fill("{")
    expect(page.get_by_text("Not JSON")).to_be_visible()
    page.get_by_label("Manner").select_option("Redelivery")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("link", name="#3 400")).to_be_visible()


def test_an_event_that_comes_late_replaces_none_that_was_asked_for_after_it(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(running.url, SECRET.decode())
    held: list[Route] = []
    page.route("**/api/events/packets.created", lambda route: held.append(route))  # noqa: PLW0108 - it must be a function
    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_label("Event", exact=True).select_option("packets.updated")
    expect(page.get_by_label("Body")).to_have_value(re.compile('"operationType": "updated"'))
    with page.expect_response("**/api/events/packets.created"):
        held[0].continue_()
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("link", name="#1 200").click()
    assert emulator.delivery(1).type == "packets.updated"


def test_deliveries_arrive_live_and_what_failed_is_seen_to_be_tried_again(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(f"http://127.0.0.1:{free_port()}", SECRET.decode(), events=["users.*"])
    page.get_by_role("link", name="Deliveries").click()
    emulator.send("users.created", wait=False)
    row = page.get_by_role("row").filter(has_text="users.created")
    expect(row).to_contain_text("no answer")
    expect(row.get_by_role("cell").last).not_to_have_text("1")
    emulator.connect(running.url, SECRET.decode(), events=["packets.*"])
    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_label("Events", exact=True).fill("40")
    page.get_by_label("A second", exact=True).fill("400")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("40 of 40")).to_be_visible()
    page.get_by_role("switch").check()
    page.get_by_role("link", name="Deliveries").click()
    until(lambda: emulator.state()["counts"]["delivered"] > 40)
    page.get_by_role("button", name=re.compile("Delivered")).click()
    expect(page.get_by_role("row").filter(has_text="packets.").first).to_be_visible()


def test_hostile_content_is_text_and_slows_nothing_down(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(running.url, SECRET.decode())
    for _ in range(5):
        emulator.send(body=json.dumps(HOSTILE, ensure_ascii=False).encode(), wait=False)
    page.goto(f"{emulator.url}/#/deliveries?delivery=1")
    body = page.get_by_role("region", name="Request body")
    expect(body).to_contain_text("</pre><script>window.hit=1</script>")
    expect(page.get_by_text(r"users/\u202e<script>window.hit=1</script>").last).to_be_visible()
    assert "\u202e" not in page.locator("body").inner_text()
    assert len(body.inner_text()) < 50_000
    took = page.evaluate(
        """async () => {
            const started = performance.now();
            location.hash = "#/send"; await new Promise(requestAnimationFrame);
            location.hash = "#/deliveries?delivery=2";
            while (!document.querySelector("#detail-title")?.textContent.includes("#2"))
                await new Promise(requestAnimationFrame);
            return performance.now() - started;
        }"""
    )
    assert took < 1_000, took
    page.get_by_role("button", name="Show all").first.click()
    expect(page.get_by_role("button", name="Show all")).to_have_count(0)
    page.get_by_role("link", name="Edit and send").click()
    expect(page.get_by_label("Body", exact=True)).to_have_value(re.compile("x{1000}"))
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(page: Page, emulator: Emulator, running: Receiver, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    seen = [Axe().run(page)]
    emulator.connect(running.url, SECRET.decode(), events=["packets.*", "users.*"])
    emulator.connect(f"http://127.0.0.1:{free_port()}", SECRET.decode(), events=["users.*"])
    emulator.send("users.created", wait=False)
    emulator.send("packets.created", manner="wrong-secret")
    for width in (1280, 1024, 390):
        page.set_viewport_size({"width": width, "height": 860})
        for place, title in PLACES.items():
            page.goto(f"{emulator.url}/#/{place}")
            expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
            if place.endswith("=1"):
                expect(page.get_by_role("heading", name="#1 ")).to_be_visible()
            seen.append(Axe().run(page))
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(OVERFLOWING) == 0, (place, width)
    assert [result.generate_report() for result in seen if result.violations_count] == []


def test_it_works_by_keyboard(page: Page, emulator: Emulator, running: Receiver) -> None:
    emulator.connect(running.url, SECRET.decode(), events=[])
    page.reload()
    box = page.get_by_label("All events")
    box.focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("packet_labels.deleted")).to_be_checked()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    assert len(emulator.state()["integrations"][0]["events"]) == 24
    emulator.send_all()
    expect(page.get_by_role("link", name="Deliveries", exact=True)).to_be_visible()
    reached = tab_through(page)
    assert {"Send", "Deliveries", "Integrations", "Webhook", "Save", "Generate", "Remove", "Copy"} <= reached
    page.goto(f"{emulator.url}/#/deliveries")
    links = page.get_by_role("table").get_by_role("link")
    expect(links).to_have_count(24)
    links.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="#23 ")).to_be_focused()


def tab_through(page: Page) -> set[str]:
    """The text of everything that Tab reaches, each of which must show that it has the focus."""
    page.evaluate("document.querySelector('.skip').focus()")
    reached: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        text, outline = page.evaluate(
            "(e => [e.textContent.trim(), getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if reached and page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none", text
        reached.add(text)
    return reached


def test_another_address_needs_the_secret_again(page: Page, emulator: Emulator, running: Receiver) -> None:
    emulator.connect("http://127.0.0.1:1", SECRET.decode())
    page.get_by_role("link", name="Integrations").click()
    page.get_by_role("button", name="http://127.0.0.1:1").click()
    page.get_by_label("Webhook URL").fill(running.url)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").filter(has_text="enter it again")).to_be_visible()
    expect(page.get_by_label("Secret", exact=True)).to_be_focused()
    assert emulator.state()["integrations"][0]["url"] == "http://127.0.0.1:1"
    page.get_by_label("Secret", exact=True).fill(SECRET.decode())
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    assert emulator.state()["integrations"][0]["url"] == running.url
