"""The emulator's page, in a real browser, against a real receiver."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Browser, Dialog, Page, Route, expect, sync_playwright

from flowhook import samples
from flows_emulator import local
from flows_emulator.client import Emulator
from flows_emulator.store import Attempt, New, Store
from tests.support.ports import free_port
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


def wait_for(page: Page, seen: Sized) -> None:
    """Let the page go on until there is something in `seen`."""
    while not seen:
        page.wait_for_timeout(20)


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


def test_another_place_takes_the_focus_before_anybody_can_write_there(page: Page, emulator: Emulator) -> None:
    emulator.connect(f"http://127.0.0.1:{free_port()}", SECRET.decode())
    # On a busy machine what is to run after a frame is painted may run much later.
    page.evaluate(
        "() => { const later = setTimeout; requestAnimationFrame = () => 0;"
        " setTimeout = (call, wait = 0, ...rest) => later(call, wait + 1000, ...rest); }"
    )
    page.get_by_role("link", name="Send", exact=True).click()
    body = page.get_by_label("Body", exact=True)
    body.fill("{}")
    expect(page).to_have_title(re.compile("^Send"))
    expect(body).to_be_focused()


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


def test_what_a_person_writes_survives_an_event_that_an_editor_before_asked_for(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(running.url, SECRET.decode())
    held: list[Route] = []
    page.route("**/api/events/packets.created", lambda route: held.append(route))  # noqa: PLW0108 - it must be a function
    page.get_by_role("link", name="Send", exact=True).click()
    expect(page.get_by_label("Body")).to_be_visible()
    wait_for(page, held)
    emulator.connect(running.url, SECRET.decode(), paused=True)
    expect(page.get_by_role("heading", name="Nobody to send to")).to_be_visible()
    emulator.connect(running.url, SECRET.decode())
    page.get_by_label("Body").fill("written by hand")
    with page.expect_response("**/api/events/packets.created"):
        held[0].continue_()
    page.get_by_role("link", name="Deliveries", exact=True).click()
    page.get_by_role("link", name="Send", exact=True).click()
    expect(page.get_by_label("Body")).to_have_value("written by hand")


def test_a_change_that_overtakes_what_was_asked_for_is_not_forgotten(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    expect(page.get_by_role("heading", name="No integration yet")).to_be_visible()
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/api/state", lambda route: held.append((route, route.fetch())))
    page.reload()
    wait_for(page, held)
    with page.expect_event("console", lambda message: message.text == "heard"):
        page.evaluate(
            "new EventSource('api/changes').onmessage = () => setTimeout(() => console.log('heard'), 300)"
        )
        emulator.connect(running.url, SECRET.decode())
    route, answer = held[0]
    assert answer.json()["integrations"] == []
    route.fulfill(response=answer)
    expect(page.get_by_role("button", name=running.url)).to_be_visible()


def connected(page: Page, emulator: Emulator, running: Receiver) -> None:
    """The page with an integration that is saved."""
    emulator.connect(running.url, SECRET.decode(), events=["packets.*"])
    expect(page.get_by_role("button", name=running.url)).to_be_visible()


def test_what_is_not_saved_is_kept_marked_and_can_be_discarded(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    connected(page, emulator, running)
    page.get_by_label("Webhook URL").fill("http://127.0.0.1:1")
    page.get_by_role("link", name="Deliveries", exact=True).click()
    page.get_by_role("link", name="Integrations").click()
    expect(page.get_by_label("Webhook URL")).to_have_value("http://127.0.0.1:1")
    expect(page.get_by_text("Not saved yet")).to_be_visible()
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.evaluate("setTimeout(() => location.reload())")
    wait_for(page, asked)
    assert asked == ["beforeunload"]
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_label("Webhook URL")).to_have_value(running.url)
    expect(page.get_by_text("Not saved yet")).to_have_count(0)
    # An integration that is changed elsewhere is shown as it is.
    emulator.connect(running.url, SECRET.decode(), events=["users.*"])
    expect(page.get_by_label("users.created")).to_be_checked()


def test_what_is_saved_removed_and_secret_is_told_as_it_is(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    page.get_by_role("button", name="Add integration").click()
    expect(page.get_by_text("once it has a URL")).to_be_visible()
    assert "it must be an address" not in page.locator("main").inner_text()
    page.get_by_label("Integration provider").select_option("Flows API webhook")
    page.get_by_label("Webhook URL").fill(running.url)
    page.get_by_label("Secret", exact=True).fill(SECRET.decode())
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("Secret", exact=True)).to_have_attribute("type", "text")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved. No event is ticked, so none is sent yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Show")).to_be_disabled()
    expect(page.get_by_text("It is never shown again")).to_be_visible()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_label("Not active: it is removed")).not_to_be_checked()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Active: the ticked events are sent")).to_be_checked()
    assert [i["softRemoved"] for i in emulator.state()["integrations"]] == [False]
    page.get_by_label("Active: the ticked events are sent").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved, and paused")).to_be_visible()


def test_clearing_asks_first_and_says_afterwards_what_was(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    connected(page, emulator, running)
    emulator.send_all()
    page.get_by_role("link", name="Deliveries", exact=True).click()
    page.get_by_role("button", name="Clear finished").click()
    expect(page.get_by_role("button", name="Keep them")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert len(emulator.deliveries()) == 3
    page.get_by_role("button", name="Clear finished").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear them").click()
    expect(page.get_by_role("heading", name="Nothing left")).to_be_visible()
    expect(page.get_by_text("3 were made so far")).to_be_visible()
    assert emulator.deliveries() == []
    # What is cleared from elsewhere is seen here too.
    emulator.send_all()
    expect(page.get_by_role("row")).to_have_count(4)
    emulator.clear()
    expect(page.get_by_role("heading", name="Nothing left")).to_be_visible()


def test_pending_and_failed_are_counted_apart(page: Page, emulator: Emulator, running: Receiver) -> None:
    connected(page, emulator, running)
    for _ in range(3):
        emulator.send("packets.created", manner="wrong-secret")
    emulator.connect(f"http://127.0.0.1:{free_port()}", SECRET.decode(), events=["users.*"])
    emulator.send("users.created", wait=False)
    expect(page.get_by_role("link", name="Deliveries 1 pending 3 failed")).to_be_visible()


class Accepting(BaseHTTPRequestHandler):
    """Accepts every event."""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()


@contextmanager
def answering_late(emulator: Emulator) -> Iterator[Callable[[], None]]:
    """Send `users.created` to a receiver that answers once what is yielded is called."""
    with HTTPServer(("127.0.0.1", 0), Accepting) as late:
        url = f"http://127.0.0.1:{late.server_port}"
        emulator.connect(url, SECRET.decode(), events=["users.*"])
        emulator.send("users.created", wait=False)
        yield late.handle_request


def test_an_answer_moves_nothing_that_one_is_about_to_click(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    connected(page, emulator, running)
    emulator.send("packets.created")
    with answering_late(emulator) as answer:
        page.get_by_role("link", name="Deliveries").click()
        page.get_by_role("link", name="users.created").click()
        expect(page.get_by_role("button", name="Try now")).to_be_visible()
        link = page.get_by_role("link", name="Edit and send")
        before = link.bounding_box()
        answer()
        expect(page.get_by_role("button", name="Send again")).to_be_visible()
        assert link.bounding_box() == before


@pytest.mark.parametrize("overtaken", ["pending", "refused"])
def test_a_delivery_is_shown_as_it_was_when_last_asked_for(
    page: Page, emulator: Emulator, overtaken: str
) -> None:
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/api/deliveries/1", lambda route: held.append((route, route.fetch())), times=1)
    with answering_late(emulator) as answer:
        page.goto(f"{emulator.url}/#/deliveries?delivery=1")
        wait_for(page, held)
        answer()
        expect(page.get_by_role("button", name="Send again")).to_be_visible()
        route, pending = held[0]
        with page.expect_response("**/api/deliveries/1") as response:
            route.fulfill(response=pending, status=200 if overtaken == "pending" else 500)
        response.value.finished()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        expect(page.get_by_role("button", name="Try now")).to_have_count(0)
        expect(page.get_by_role("button", name="Send again")).to_be_visible()


def test_a_view_of_the_deliveries_can_be_shared(page: Page, emulator: Emulator, running: Receiver) -> None:
    connected(page, emulator, running)
    [wanted] = emulator.send("packets.created", manner="wrong-secret")
    emulator.send("packets.updated", manner="wrong-secret")
    emulator.send_all()
    page.get_by_role("link", name="Deliveries").click()
    page.get_by_role("button", name=re.compile("Failed")).click()
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_label("Type").select_option("packets.created")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_label("Answer").select_option("4xx")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type(wanted.entity[-6:].upper())
    expect(page).to_have_url(re.compile(r"entity="))
    expect(page.get_by_role("row")).to_have_count(2)
    emulator.send("packets.deleted", manner="wrong-secret")
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("packets.created")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("img", name="The last 1: 1 failed")).to_be_visible()
    page.get_by_label("Entity").fill("nobody")
    expect(page.get_by_role("heading", name="Nothing selected")).to_be_visible()
    page.get_by_role("link", name="All 6 deliveries").click()
    expect(page.get_by_role("row")).to_have_count(7)
    expect(page.get_by_role("img", name="The last 6: 3 delivered, 3 failed")).to_be_visible()


def test_the_keyboard_goes_through_the_deliveries_and_the_detail_shows_what_changed(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    connected(page, emulator, running)
    emulator.send_all()
    update = json.loads(samples.load("packets.updated"))
    emulator.send(body=json.dumps(update).encode())
    page.get_by_role("link", name="Deliveries", exact=True).click()
    expect(page.get_by_role("row")).to_have_count(5)
    for key in "jjk":
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="packets.updated").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="#4 ")).to_be_focused()
    changed = {row.get_by_role("rowheader").inner_text(): row for row in page.locator(".diff tbody tr").all()}
    name = update["data"]["updateMask"][0]
    row = changed[f"properties.{name}"]
    expect(row.locator("del")).to_have_text(json.dumps(update["data"]["oldValue"]["properties"][name]))
    expect(row.locator("ins")).to_have_text(json.dumps(update["data"]["value"]["properties"][name]))
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="#4 ")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="#3 packets.deleted")).to_be_focused()


def test_an_id_is_shortened_in_its_middle_and_a_name_is_not_broken(
    page: Page, emulator: Emulator, running: Receiver
) -> None:
    emulator.connect(running.url, SECRET.decode())
    event = json.loads(samples.load("packet_comments.deleted"))
    event["entityPath"] = f"pipelinesPackets/pk-{'7f3a' * 12}/comments/cm-91c2"
    emulator.send(body=json.dumps(event).encode())
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(f"{emulator.url}/#/deliveries")
        path = page.locator(".middle:visible")
        expect(path).to_have_attribute("title", event["entityPath"])
        copied = path.evaluate(
            "e => { getSelection().selectAllChildren(e); return getSelection().toString(); }"
        )
        assert copied == event["entityPath"]
        head, whole = path.locator("span").bounding_box(), path.bounding_box()
        assert head is not None
        assert whole is not None
        assert head["width"] < whole["width"] - 60, "there is no room for its end"
        assert path.locator("span").evaluate("e => e.scrollWidth > e.clientWidth")
        name = page.get_by_role("link", name="packet_comments.deleted")
        assert name.evaluate("e => e.getClientRects().length") == 1
        assert name.evaluate("e => e.offsetWidth <= e.parentElement.clientWidth")


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator that has made ten thousand deliveries."""
    store = Store(tmp_path / "data")
    new = [New("in-gone", "packets.updated", f"pipelinesPackets/pk-{n:08x}", b"{}") for n in range(10_000)]
    for identifier in store.happen(new, {}, [], 0.0):
        status = 401 if identifier % 100 == 0 else 200
        attempt = Attempt(float(identifier), 5.0, "", [], status=status)
        store.record(identifier, attempt, "failed" if status == 401 else "delivered", float(identifier))
    store.close()
    with local.emulator(tmp_path / "data", "--host", "127.0.0.1") as started:
        yield started


def test_ten_thousand_deliveries_scroll_and_few_of_them_are_in_the_document(
    browser: Browser, crowded: Emulator
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{crowded.url}/#/deliveries")
    expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "10001")
    expect(page.get_by_role("row").nth(1)).to_contain_text("0000270f")
    # A frame every 16 ms is asked for; a busy machine gives fewer.
    usual, most = page.evaluate(
        """async () => {
            const frames = [];
            let rows = 0;
            for (let y = 0, last = performance.now(); y < 60_000; y += 300) {
                scrollTo(0, y);
                await new Promise(requestAnimationFrame);
                frames.push(performance.now() - last);
                last = performance.now();
                rows = Math.max(rows, document.querySelectorAll("tbody tr").length);
            }
            return [frames.sort((a, b) => a - b)[Math.floor(frames.length / 2)], rows];
        }"""
    )
    assert most < 100
    assert usual < 200, usual
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.get_by_role("row").filter(has_text="pk-00000000")).to_be_visible()
    page.get_by_role("button", name=re.compile("Failed")).click()
    expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "101")
    page.close()


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
