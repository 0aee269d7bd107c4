"""The emulated platform as it is run: `python -m flowhook emulate` against real receivers."""

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from flowhook import samples
from flowhook.cli.run import listens
from flows_emulator import local
from flows_emulator.client import Emulator, EmulatorError, NotFinished
from flows_emulator.integration import Integration, Settings
from flows_emulator.sender import Sender
from flows_emulator.store import Attempt, New, Store, StoreError
from tests.support.command_line import flowhook, modules_after
from tests.support.ports import free_port
from tests.support.receiver import (
    FORMS,
    PATIENCE,
    ROOT,
    SECRET,
    Receiver,
    end,
    receiver,
    start,
    until,
    usual_project,
)

# Each test starts processes.
pytestmark = pytest.mark.slow

ANSWERED = Attempt(0.0, 1.0, "", [], status=200)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with its page, that sends nowhere until a test connects it."""
    with local.emulator(tmp_path_factory.mktemp("alone") / "data", "--host", "127.0.0.1") as started:
        yield started


def get(emulator: Emulator, path: str = "/api/state", **headers: str) -> httpx2.Response:
    return httpx2.get(emulator.url + path, headers=headers, trust_env=False)


def test_all_24_types_reach_a_handler(flows: Emulator) -> None:
    done = flows.send_all()
    assert [delivery.type for delivery in done] == list(samples.TYPES)
    for delivery in done:
        answer = json.loads(delivery.answer)
        assert (delivery.state, delivery.status, delivery.attempts) == ("delivered", 200, 1)
        assert answer["type"] == delivery.type
        assert answer["id"] == hashlib.sha256(delivery.body.encode()).hexdigest()
        assert "recorder.record" in answer["handlers"]


def test_one_that_happens_is_what_the_last_one_of_its_entity_left(flows: Emulator) -> None:
    bodies = [json.loads(delivery.body) for _ in range(12) for delivery in flows.send("packets.updated")]
    last: dict[str, object] = {}
    for body in bodies:
        data = body["data"]
        assert data["oldValue"] == last.get(body["entityPath"], data["oldValue"])
        last[body["entityPath"]] = data["value"]
    assert len(last) < len(bodies)


@pytest.mark.parametrize(
    ("manner", "expected"),
    [
        ("redelivery", [("delivered", 200), ("delivered", 200)]),
        ("stale", [("delivered", 200), ("delivered", 200)]),
        ("wrong-secret", [("failed", 401)]),
        ("truncated", [("failed", 400)]),
        ("slow", [("delivered", 200)]),
        ("cut", [("failed", 0)]),
    ],
)
def test_it_misbehaves_as_asked(flows: Emulator, manner: str, expected: list[tuple[str, int]]) -> None:
    done = flows.send("packets.updated", manner=manner)
    assert [(delivery.state, delivery.status) for delivery in done] == expected
    assert {delivery.attempts for delivery in done} == {1}
    if manner == "redelivery":
        assert done[0].body == done[1].body
    if manner == "stale":
        later, earlier = (json.loads(delivery.body) for delivery in done)
        assert later["entityPath"] == earlier["entityPath"]
        assert later["data"]["oldValue"] == earlier["data"]["value"]
    if manner == "slow":
        assert done[0].milliseconds > 4_500
    if manner == "cut":
        assert "as asked" in done[0].error


@pytest.mark.parametrize("form", FORMS)
def test_the_secret_travels_in_every_form(alone: Emulator, running: Receiver, form: str) -> None:
    alone.connect(running.url, SECRET.decode(), auth=form)
    [delivery] = alone.send("users.created")
    assert delivery.status == 200
    shown = get(alone, f"/api/deliveries/{delivery.id}").text
    assert SECRET.decode() not in shown
    assert SECRET.decode() not in get(alone).text


def test_a_query_parameter_too_and_it_is_masked(alone: Emulator, tmp_path: Path) -> None:
    with receiver(tmp_path, WEBHOOK_AUTH="query:t") as pinned:
        kept = alone.connect(f"{pinned.url}/?a=1", SECRET.decode(), auth="query:t", events=["users.deleted"])
        done = [d for d in alone.send("users.deleted") if pinned.deliveries()]
        assert 200 in {delivery.status for delivery in done}
        shown = "".join(get(alone, f"/api/deliveries/{delivery.id}").text for delivery in done)
        assert "a=1&t=" in shown
        assert SECRET.decode() not in shown
    httpx2.request(
        "DELETE", f"{alone.url}/api/integrations/{kept['id']}", headers={"content-type": "application/json"}
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b'{"entityPath": "users/\\ud83d", "operationType": "created", "data": {"value": {"properties": {}}}}',
        b'{"entityPath": "u/u", "operationType": "created", "data": {"value": {"properties": {"x": NaN}}}}',
        b"[" * 200_000,
        json.dumps({"operationType": "<script>" * 9_999, "entityPath": "\u202e" * 5_000}).encode(),
        b'{"x": "' + b"a" * 1_000_000 + b'"}',
    ],
    ids=["empty", "no text", "half an emoji", "NaN", "deep", "long names", "1 MB"],
)
def test_whatever_is_sent_arrives_to_the_byte_and_breaks_nothing(flows: Emulator, body: bytes) -> None:
    [delivery] = flows.send(body=body, wait=False)
    sent = get(flows, f"/api/deliveries/{delivery.id}/body")
    assert sent.content == body
    # On a busy machine the first attempt may end without an answer.
    until(lambda: flows.delivery(delivery.id).status in (400, 422))
    assert flows.send("packets.updated")[0].status == 200


def test_what_is_not_ticked_is_not_sent(alone: Emulator, running: Receiver) -> None:
    alone.connect(running.url, SECRET.decode(), events=["packets.*"])
    with pytest.raises(EmulatorError, match=r"no active integration sends users\.updated"):
        alone.send("users.updated")
    assert {delivery.type for delivery in alone.send_all()} == {
        "packets.created",
        "packets.updated",
        "packets.deleted",
    }


def test_it_goes_on_after_being_killed_and_loses_nothing(tmp_path: Path) -> None:
    data, port, own = tmp_path / "data", free_port(), free_port()
    command = [sys.executable, "-m", "flowhook", "emulate", "--headless", "--data", str(data)]
    process = subprocess.Popen([*command, "--port", str(own), "--first-retry", "0.05"], cwd=ROOT)
    try:
        until(lambda: listens(own))
        first = Emulator(f"http://127.0.0.1:{own}")
        first.connect(f"http://127.0.0.1:{port}", SECRET.decode())
        waiting = first.send("packets.updated", wait=False)
        until(lambda: first.delivery(waiting[0].id).attempts > 1)
        with pytest.raises(NotFinished, match="nobody answers"):
            first.wait([waiting[0].id], patience=0)
        first.close()
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert stat.S_IMODE(data.stat().st_mode) == 0o600
    receiving = start(usual_project(), port, tmp_path / "output", {})
    try:
        until(lambda: listens(port))
        with local.emulator(data) as second:
            [delivery] = second.wait([waiting[0].id])
            assert delivery.status == 200
            assert delivery.attempts > 2
            assert delivery.body == waiting[0].body
            assert second.state()["integrations"][0]["secretSet"]
    finally:
        end(receiving)


def test_a_stream_of_1000_loses_none_while_the_receiver_is_restarted(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    receivers = [start(usual_project(), port, tmp_path / "first", {})]
    try:
        until(lambda: listens(port))
        with local.emulator(tmp_path / "data") as emulator:
            emulator.connect(url, SECRET.decode())
            emulator.stream(1_000, 400)
            until(lambda: emulator.state()["counts"]["delivered"] > 300)
            receivers[0].terminate()
            receivers[0].wait(PATIENCE)
            until(lambda: any(d["attempts"] > 0 for d in emulator.deliveries(1_000, "pending")))
            receivers.append(start(usual_project(), port, tmp_path / "second", {}))
            assert emulator.settle(60) == {"pending": 0, "delivered": 1_000, "failed": 0}
            sent = emulator.deliveries(1_000)
            assert max(delivery["attempts"] for delivery in sent) > 1
            with httpx2.Client(base_url=emulator.url, trust_env=False) as client:
                bodies = [client.get(f"/api/deliveries/{d['id']}/body").content for d in sent]
    finally:
        for process in receivers:
            end(process)
    logged = (tmp_path / "first").read_text() + (tmp_path / "second").read_text()
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    handled = {line["event_id"] for line in lines if line.get("outcome") == "handled"}
    assert handled == {hashlib.sha256(body).hexdigest() for body in bodies}
    assert len(handled) == 1_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "flows.evil.example"}, 421),
        ({"Host": "localhost.evil.example:8090"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "localhost"}, 200),
        ({"Host": "192.168.7.7:8090"}, 200),
    ],
)
def test_other_sites_are_refused(alone: Emulator, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answers = [
        httpx2.request("DELETE", f"{alone.url}/api/streams/none", headers=sent, trust_env=False),
        httpx2.get(f"{alone.url}/api/state", headers=headers, trust_env=False),
    ]
    assert answers[0].status_code == status
    assert answers[1].status_code == (200 if status == 415 else status)


def test_a_link_from_elsewhere_opens_the_page_and_its_policy_is_strict(alone: Emulator) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    opened = get(alone, "/", **headers)
    assert opened.status_code == 200
    policy = opened.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"url": "ftp://x"}, "/url"),
        ({"url": "http://user:pass@x"}, "/url"),
        ({"url": "http://x:99999"}, "/url"),
        ({"url": ""}, "/url"),
        ({"secret": "a\nb"}, "/secret"),
        ({"secret": "x" * 2_000}, "/secret"),
        ({"auth": "auto"}, "/auth"),
        ({"auth": "header:content-length"}, "/auth"),
        ({"auth": "hmac-md5:x"}, "/auth"),
        ({"events": ["packets.moved"]}, "/events"),
        ({"provider": "Zapier"}, "/provider"),
        ({"status": "on"}, "/status"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
def test_settings_that_can_not_work_are_refused_and_not_repeated(
    alone: Emulator, changed: dict[str, object], pointer: str
) -> None:
    before = alone.state()["integrations"]
    settings = {"url": "http://127.0.0.1:1", "secret": "s3cret-that-nobody-shows", "events": [], **changed}
    answer = httpx2.post(f"{alone.url}/api/integrations", json=settings, trust_env=False)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert "s3cret" not in answer.text
    assert alone.state()["integrations"] == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/deliveries", b"nonsense", 400),
        ("POST", "/api/deliveries", b"[]", 422),
        ("POST", "/api/deliveries", b"[" * 100_000, 400),
        ("POST", "/api/deliveries", b"{}", 422),
        ("POST", "/api/deliveries", b'{"type": "packets.moved"}', 422),
        ("POST", "/api/deliveries", b'{"type": "packets.updated", "body": "x"}', 422),
        ("POST", "/api/deliveries", b'{"type": "packets.updated", "manner": "rude"}', 422),
        ("POST", "/api/deliveries", b'{"body": "?", "base64": true}', 422),
        ("PUT", "/api/streams/s", b'{"rate": 0}', 422),
        ("PUT", "/api/streams/s", b'{"count": -1}', 422),
        ("GET", "/api/deliveries?limit=x", b"", 422),
        ("GET", "/api/deliveries/999999", b"", 404),
        ("POST", "/api/deliveries/999999/again", b"{}", 404),
        ("PUT", "/api/integrations/none", b"{}", 404),
        ("GET", "/api/events/nonsense", b"", 422),
        ("PATCH", "/api/state", b"{}", 405),
    ],
)
def test_what_the_api_can_not_do_it_says(
    alone: Emulator, method: str, path: str, body: bytes, status: int
) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx2.request(method, alone.url + path, content=body, headers=headers, trust_env=False)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_the_api_lists_itself(alone: Emulator) -> None:
    listed = get(alone, "/api").json()
    assert ("POST", "/api/deliveries/all") in {(route["method"], route["path"]) for route in listed}
    assert all(route["does"] for route in listed)


def test_changes_are_told_as_they_come_and_nobody_who_watches_keeps_it_from_stopping(
    tmp_path: Path, running: Receiver
) -> None:
    heard: list[dict[str, object]] = []
    with local.emulator(tmp_path / "data") as emulator:
        emulator.connect(running.url, SECRET.decode())
        listening = threading.Event()

        def watch() -> None:
            with httpx2.stream("GET", f"{emulator.url}/api/changes", timeout=PATIENCE) as changes:
                for line in changes.iter_lines():
                    listening.set()
                    if line.startswith("data: "):
                        heard.append(json.loads(line.removeprefix("data: ")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert listening.wait(PATIENCE)
        [delivery] = emulator.send("packets.created")
        topic = f"delivery {delivery.id}"
        until(lambda: any(isinstance(d := c.get(topic), dict) and d["status"] == 200 for c in heard))
    watcher.join(PATIENCE)
    assert not watcher.is_alive()


def test_a_removed_integration_sends_nothing_and_what_waited_for_it_has_failed(tmp_path: Path) -> None:
    with local.emulator(tmp_path / "data") as emulator:
        kept = emulator.connect(f"http://127.0.0.1:{free_port()}", SECRET.decode())
        [waiting] = emulator.send("packets.created", wait=False)
        headers = {"content-type": "application/json"}
        gone = httpx2.request("DELETE", f"{emulator.url}/api/integrations/{kept['id']}", headers=headers)
        assert gone.json()["softRemoved"] is True
        assert emulator.raw(kept["id"])["softRemoved"] is True
        [failed] = emulator.wait([waiting.id])
        assert failed.error == "the integration has been removed"
        with pytest.raises(EmulatorError, match="no active integration"):
            emulator.send("packets.created")


def test_the_commands_do_what_the_page_does(tmp_path: Path, running: Receiver) -> None:
    with local.emulator(tmp_path / "data") as emulator:
        assert "there is no integration yet" in flowhook("emulate", "raw", FLOWS_EMULATOR=emulator.url).stderr
        nothing = flowhook("emulate", "send", "packets.updated", FLOWS_EMULATOR=emulator.url)
        assert nothing.returncode == 1
        assert "no active integration sends packets.updated" in nothing.stderr
        connected = flowhook(
            "emulate",
            "connect",
            running.url,
            "--events",
            "packets.*,users.created",
            FLOWS_EMULATOR=emulator.url,
        )
        assert "sends 4 of 24 event types" in connected.stdout
        sent = flowhook("emulate", "send", "packets.*", FLOWS_EMULATOR=emulator.url)
        assert (sent.returncode, sent.stdout.count("delivered")) == (0, 3)
        assert (
            flowhook(
                "emulate", "send", "packets.created", "--manner", "wrong-secret", FLOWS_EMULATOR=emulator.url
            ).returncode
            == 1
        )
        body = tmp_path / "event.json"
        body.write_bytes(samples.load("users.created"))
        assert flowhook("emulate", "send", "--file", str(body), FLOWS_EMULATOR=emulator.url).returncode == 0
        assert flowhook("emulate", "again", "1", FLOWS_EMULATOR=emulator.url).returncode == 0
        streamed = flowhook(
            "emulate", "stream", "--count", "30", "--rate", "300", FLOWS_EMULATOR=emulator.url
        )
        assert "30 events happened; 0 deliveries failed" in streamed.stdout
        listed = json.loads(
            flowhook("emulate", "deliveries", "--json", "--limit", "50", FLOWS_EMULATOR=emulator.url).stdout
        )
        assert len(listed) == 36
        assert flowhook("emulate", "stop", FLOWS_EMULATOR=emulator.url).returncode == 0
        assert flowhook("emulate", "clear", FLOWS_EMULATOR=emulator.url).returncode == 0
        assert emulator.deliveries() == []
        raw = tmp_path / "raw.json"
        raw.write_text(flowhook("emulate", "raw", FLOWS_EMULATOR=emulator.url).stdout)
        checked = flowhook("check", str(raw))
        assert checked.returncode == 1
        assert "my_handler.greet waits for packet_comments.created, not ticked" in checked.stdout
        paused = flowhook("emulate", "connect", running.url, "--paused", FLOWS_EMULATOR=emulator.url)
        assert "is paused, and would send 24 of 24 event types" in paused.stdout
        assert flowhook("emulate", "send", "packets.created", FLOWS_EMULATOR=emulator.url).returncode == 1
        assert flowhook("emulate", "disconnect", running.url, FLOWS_EMULATOR=emulator.url).returncode == 0
        assert [i["softRemoved"] for i in emulator.state()["integrations"]] == [True]
        unknown = flowhook("emulate", "disconnect", "http://127.0.0.1:1", FLOWS_EMULATOR=emulator.url)
        assert "no integration sends to http://127.0.0.1:1" in unknown.stderr


def test_the_organization_lives_until_it_is_told_not_to(tmp_path: Path, running: Receiver) -> None:
    with local.emulator(tmp_path / "data") as emulator:
        emulator.connect(running.url, SECRET.decode())
        assert flowhook("emulate", "live", "on", "--rate", "50", FLOWS_EMULATOR=emulator.url).returncode == 0
        until(lambda: emulator.state()["counts"]["delivered"] > 10)
        assert flowhook("emulate", "live", "off", FLOWS_EMULATOR=emulator.url).returncode == 0
        assert emulator.settle()["failed"] == 0
        assert not emulator.state()["streams"]["life"]["running"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "is not a port"),
        (["--data", "/nowhere/data"], "/nowhere/data can't be used"),
        (["deliveries", "--at", "http://127.0.0.1:1"], "no emulator answers at http://127.0.0.1:1"),
        (["send"], "nothing to send"),
        (["send", "packet.moved"], "did you mean packets?"),
        (["connect", "https://example.invalid"], "WEBHOOK_SECRET"),
    ],
)
def test_a_command_that_fails_says_what_to_do(arguments: list[str], message: str) -> None:
    done = flowhook("emulate", *arguments, WEBHOOK_SECRET="")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_loopback_and_says_that_a_port_is_taken(alone: Emulator) -> None:
    port = alone.url.rpartition(":")[2]
    taken = flowhook("emulate", "--port", port)
    assert taken.returncode == 1
    assert "choose another one with --port" in taken.stderr
    listening = subprocess.run(["ss", "-tln"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[3] for line in listening.splitlines() if f":{port} " in line] == [
        f"127.0.0.1:{port}"
    ]


def test_headless_has_no_page(flows: Emulator, alone: Emulator) -> None:
    assert get(flows, "/").status_code == 404
    assert get(alone, "/").status_code == 200


def test_a_file_of_a_newer_version_in_use_or_of_something_else_is_left_alone(tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    Store(newer).close()
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="a newer flowhook made it"):
        Store(newer)
    store = Store(tmp_path / "in use")
    with pytest.raises(StoreError, match="locked"):
        Store(tmp_path / "in use")
    store.close()
    other = tmp_path / "other"
    other.write_text("no database, " * 100)
    with pytest.raises(StoreError, match="can't be used"):
        Store(other)
    assert other.read_text().startswith("no database")


def test_the_store_keeps_the_newest_finished_and_all_that_wait(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    new = [New("i", "users.created", f"users/{number}", b"{}") for number in range(20)]
    identifiers = store.happen(new, {}, [], 0.0)
    for identifier in identifiers[3:]:
        store.record(identifier, ANSWERED, "delivered", 0.0)
    store.prune(kept=5)
    left = [row["id"] for row in store.summaries(100)]
    assert left == [*reversed(identifiers[15:]), *reversed(identifiers[:3])]
    assert store.attempts(identifiers[4]) == []
    assert store.due(1.0, 10, {identifiers[0]})[0].id == identifiers[1]
    store.close()


def test_a_receiver_that_never_ends_its_answer_is_given_up() -> None:
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(0.05)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1_000), 0.01)
        writer.transport.abort()
        ended.set()

    async def attempt() -> Attempt:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        settings = {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "secret": "s"}
        sender = Sender(patience=0.5, longest=1.0)
        got = await sender.attempt(Integration.new(Settings.model_validate(settings)), b"{}", "")
        await sender.close()
        server.close()
        await ended.wait()
        return got

    got = asyncio.run(attempt())
    assert (got.status, got.error) == (0, "no answer in time")
    assert got.milliseconds > 900


def test_the_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    first, second = store.happen([New("i", "", "", b""), New("i", "", "", b"", follows=0)], {}, [], now=0.0)
    assert [due.id for due in store.due(1.0, 10, ())] == [first]
    store.record(first, ANSWERED, "pending", 5.0)
    assert store.due(1.0, 10, ()) == []
    assert store.next_due(1.0) == 5.0
    store.record(first, ANSWERED, "failed", 5.0)
    assert [due.id for due in store.due(1.0, 10, ())] == [second]
    store.close()


def test_the_fixture_needs_only_what_a_project_has() -> None:
    loaded = modules_after("import flowhook.testing")
    assert not {"starlette", "uvicorn", "httpx2", "sqlite3", "rich"} & loaded


@pytest.mark.parametrize("identifier", ["9" * 19, "9" * 30, "9" * 5_000, "0" * 30 + "1", "x", "%D9%A3"])
def test_a_delivery_that_can_not_be_is_not_there(alone: Emulator, identifier: str) -> None:
    path = f"/api/deliveries/{identifier}"
    headers = {"content-type": "application/json"}
    again = httpx2.post(f"{alone.url}{path}/again", content=b"{}", headers=headers, trust_env=False)
    for answer in (again, get(alone, path), get(alone, f"{path}/body")):
        assert answer.status_code == 404
        assert "There is no delivery" in answer.json()["detail"]


def test_the_id_of_a_preview_may_be_anything(alone: Emulator) -> None:
    headers = {"content-type": "application/json"}
    for identifier in ('"\\ud800"', "1e400", "9" * 4_000, "null", "[]"):
        body = f'{{"id": {identifier}, "url": "http://127.0.0.1:1"}}'.encode()
        answer = httpx2.post(f"{alone.url}/api/preview", content=body, headers=headers, trust_env=False)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("url", "auth", "kept"),
    [
        ("http://127.0.0.1:8080/other?a=1", "hmac-sha256:x-a", True),
        ("HTTP://127.0.0.1:8080", "hmac-sha512:x-b", True),
        ("http://127.0.0.1:8080", "standard-webhooks", True),
        ("http://127.0.0.1:8081", "hmac-sha256:x-a", False),
        ("http://127.0.0.1", "hmac-sha256:x-a", False),
        ("https://127.0.0.1:8080", "hmac-sha256:x-a", False),
        ("http://localhost:8080", "hmac-sha256:x-a", False),
        ("http://127.0.0.1:8080@evil.example", "hmac-sha256:x-a", False),
        ("http://127.0.0.1:8080", "hmac-sha1:x-a", False),
        ("http://127.0.0.1:8080", "bearer", False),
        ("http://127.0.0.1:8080", "basic", False),
        ("http://127.0.0.1:8080", "header:x-a", False),
        ("http://127.0.0.1:8080", "query:a", False),
    ],
)
def test_the_stored_secret_is_not_given_away(alone: Emulator, url: str, auth: str, kept: bool) -> None:
    known = alone.connect("http://127.0.0.1:8080", SECRET.decode(), auth="hmac-sha256:x-a", paused=True)
    path = f"{alone.url}/api/integrations/{known['id']}"
    settings = {"url": url, "auth": auth, "status": "paused"}
    changed = httpx2.put(path, json=settings, trust_env=False)
    assert changed.status_code == (200 if kept else 422)
    if not kept and "@" not in url:
        assert changed.json()["errors"][0]["pointer"] == "/secret"
        with_secret = httpx2.put(path, json={**settings, "secret": SECRET.decode()}, trust_env=False)
        assert with_secret.status_code == 200
    httpx2.request("DELETE", path, headers={"content-type": "application/json"}, trust_env=False)


def test_from_a_header_to_the_query_needs_the_secret_and_an_implied_port_is_the_same() -> None:
    bearer = Integration.new(Settings(url="http://a.example", secret=SecretStr("x"), auth="bearer"))
    assert bearer.needs_secret(Settings(url="http://a.example", auth="query:t"))
    assert not bearer.needs_secret(Settings(url="http://A.example:80/x", auth="basic"))
    assert not bearer.needs_secret(Settings(url="http://a.example", auth="hmac-sha1:x"))
