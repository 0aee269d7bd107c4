"""Every row of the table of answers, from outside, over HTTP."""

import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowhook import samples
from flowhook.cli.run import listens
from tests.support.receiver import PATIENCE, SECRET, Receiver, project, receiver, until

EVENT = samples.load("packets.updated")
DOCUMENT = json.loads(EVENT)
HANDLERS = {
    "b_failing": """
from flowhook import Reject, on

@on("packets.created", "users.created")
def fails(event):
    raise RuntimeError("no value of the event")

@on("packets.deleted", "users.created")
def rejects(event):
    raise Reject("it is not ours")
""",
    "a_good": """
from flowhook import on

@on("packets.*", "users.*")
async def works(event):
    pass
""",
}


@dataclass(frozen=True)
class Case:
    name: str
    status: int
    slug: str
    body: bytes = EVENT
    headers: dict[bytes, bytes] = field(default_factory=dict)
    secret: bytes | None = SECRET
    method: str = "POST"


def changed(**fields: object) -> bytes:
    return json.dumps({**DOCUMENT, **fields}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in DOCUMENT.items() if key != name}).encode()


BIG = b" " * (8 * 1024 * 1024 + 1)
PROBLEMS = [
    *(
        Case(f"{m} is not POST", 405, "method-not-allowed", method=m)
        for m in ("GET", "PUT", "DELETE", "PATCH")
    ),
    Case("too large, honest about it", 413, "body-too-large", BIG),
    Case("too large, whoever sends it", 413, "body-too-large", BIG, secret=None),
    Case("no secret", 401, "unauthentic", secret=None),
    Case("wrong secret", 401, "unauthentic", secret=b"wrong"),
    Case("wrong secret and no JSON", 401, "unauthentic", b"{", secret=b"wrong"),
    Case(
        "wrong secret and wrong type",
        401,
        "unauthentic",
        headers={b"content-type": b"text/html"},
        secret=None,
    ),
    Case(
        "a form",
        415,
        "unsupported-media-type",
        headers={b"content-type": b"application/x-www-form-urlencoded"},
    ),
    Case("XML", 415, "unsupported-media-type", headers={b"content-type": b"application/xml"}),
    Case("rubbish as a type", 415, "unsupported-media-type", headers={b"content-type": b"\xff"}),
    Case("no body", 400, "not-json", b""),
    Case("half a body", 400, "not-json", EVENT[: len(EVENT) // 2]),
    Case("NaN", 400, "not-json", EVENT.replace(b'"org-acme"', b"NaN")),
    Case("not UTF-8", 400, "not-json", EVENT.replace(b"org-acme", b"\xff\xfe")),
    Case("an array", 422, "not-an-event", b"[]"),
    Case("null", 422, "not-an-event", b"null"),
    Case("a string", 422, "not-an-event", b'"packets.updated"'),
    Case("empty object", 422, "not-an-event", b"{}"),
    Case("unknown operation", 422, "not-an-event", changed(operationType="renamed")),
    Case("a value that is no object", 422, "not-an-event", changed(data={"value": "x"})),
    *(Case(f"without {name}", 422, "not-an-event", without(name)) for name in DOCUMENT),
]


@pytest.mark.parametrize("case", PROBLEMS, ids=lambda case: case.name)
def test_what_is_not_accepted_is_answered_as_a_problem(running: Receiver, case: Case) -> None:
    if case.method == "POST":
        response = running.post(case.body, case.headers, secret=case.secret)
    else:
        response = running.client.request(case.method, "/")
    assert response.status_code == case.status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:flowhook:problem:{case.slug}"
    assert problem["status"] == case.status
    assert problem["title"]
    assert problem["detail"]
    assert b"Traceback" not in response.content
    assert SECRET not in response.content
    assert b"pk-7f3a" not in response.content


def test_405_names_the_method_that_works(running: Receiver) -> None:
    assert running.client.get("/").headers["allow"] == "POST"


def test_401_is_the_same_for_every_cause(running: Receiver) -> None:
    causes = [
        running.post(EVENT, secret=None),
        running.post(EVENT, secret=b"wrong"),
        running.post(b"{", secret=None),
        running.post(EVENT, {b"x-signature": b"sha256=zz", b"content-type": b"text/plain"}, secret=None),
    ]
    assert (
        len({(cause.status_code, cause.content, cause.headers["www-authenticate"]) for cause in causes}) == 1
    )


def test_errors_of_an_event_are_json_pointers_without_the_input(running: Receiver) -> None:
    body = changed(
        operationType="secret-word", data={"value": {"createTime": "secret-word"}, "updateMask": [7]}
    )
    response = running.post(body)
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert pointers == {"/operationType", "/data/value/createTime", "/data/updateMask/0"}
    assert "secret-word" not in response.text
    assert all(error["detail"] for error in response.json()["errors"])


def test_a_chunked_body_over_the_limit_is_refused_without_its_length(running: Receiver) -> None:
    response = running.client.post("/", content=iter([b" " * 65_536] * 140))
    assert response.status_code == 413


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_every_event_type_of_the_platform_is_handled(running: Receiver, event_type: str) -> None:
    body = samples.load(event_type)
    response = running.post(body)
    answer = response.json()
    assert (response.status_code, answer["type"], answer["outcome"]) == (200, event_type, "handled")
    assert answer["id"] == hashlib.sha256(body).hexdigest()
    assert "recorder.record" in answer["handlers"]


def test_a_redelivery_has_the_same_id_and_is_handled_again(running: Receiver) -> None:
    first, second = running.post(EVENT).json(), running.post(EVENT).json()
    assert first == second


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON; charset=utf-8",
        b"application/cloudevents+json",
        b"text/json",
        b"",
    ],
)
def test_every_way_to_announce_json_is_accepted(running: Receiver, content_type: bytes) -> None:
    assert running.post(EVENT, {b"content-type": content_type}).status_code == 200


def test_no_content_type_at_all_is_accepted(running: Receiver) -> None:
    request = running.client.build_request(
        "POST", "/", content=EVENT, headers={"authorization": f"Bearer {SECRET.decode()}"}
    )
    assert "content-type" not in request.headers
    assert running.client.send(request).status_code == 200


@pytest.mark.parametrize("path", ["/", "/flows", "/a/b?x=1", "/%00%ff"])
def test_every_path_is_answered(running: Receiver, path: str) -> None:
    headers = {"authorization": f"Bearer {SECRET.decode()}"}
    assert running.client.post(path, content=EVENT, headers=headers).status_code == 200


def test_one_line_is_logged_for_each_delivery_with_the_fields_of_cloud_logging(tmp_path: Path) -> None:
    trace = b"4bf92f3577b34da6a3ce929d0e0e4736"
    with receiver(tmp_path) as started:
        started.post(EVENT, {b"traceparent": b"00-" + trace + b"-00f067aa0ba902b7-01"})
        started.post(EVENT, secret=b"wrong-but-secret")
        started.post(b"[]")
        accepted, forged, refused = started.deliveries()
    assert accepted["severity"] == "INFO"
    assert accepted["event_id"] == hashlib.sha256(EVENT).hexdigest()
    assert accepted["event_type"] == "packets.updated"
    assert accepted["entity_path"] == "pipelinesPackets/pk-7f3a"
    assert (accepted["outcome"], accepted["status"]) == ("handled", 200)
    assert accepted["handlers"] == ["recorder.record"]
    assert accepted["milliseconds"] > 0
    assert accepted["logging.googleapis.com/trace"] == trace.decode()
    assert accepted["logging.googleapis.com/spanId"] == "00f067aa0ba902b7"
    assert accepted["logging.googleapis.com/trace_sampled"] is True
    assert (forged["severity"], forged["status"], forged["outcome"]) == ("WARNING", 401, "unauthentic")
    assert "authorization" in forged["headers_tried"]
    assert (refused["severity"], refused["status"], refused["outcome"]) == ("WARNING", 422, "not-an-event")
    assert refused["errors"][0]["pointer"] == ""


def test_neither_a_secret_nor_a_header_nor_a_body_is_ever_logged(running: Receiver) -> None:
    running.post(EVENT, {b"x-odd": b"value-of-a-header"}, form="hmac-sha256:x-signature")
    running.post(EVENT, secret=b"a-wrong-secret")
    running.post(changed(operationType="piece-of-a-body"))
    logged = running.output()
    for word in (
        SECRET.decode(),
        "value-of-a-header",
        "a-wrong-secret",
        "piece-of-a-body",
        "Onboard Contoso",
    ):
        assert word not in logged


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    tmp_path = tmp_path_factory.mktemp("failing")
    with receiver(tmp_path, project(tmp_path, **HANDLERS), GOOGLE_CLOUD_PROJECT="acme") as started:
        yield started


def test_a_failed_handler_is_500_and_the_others_have_run(failing: Receiver) -> None:
    response = failing.post(samples.load("packets.created"))
    problem = response.json()
    assert response.status_code == 500
    assert problem["type"] == "urn:flowhook:problem:handler-failed"
    assert problem["failed"] == ["b_failing.fails"]
    assert "b_failing.fails" in problem["detail"]
    assert problem["instance"] == hashlib.sha256(samples.load("packets.created")).hexdigest()
    assert "RuntimeError" not in response.text
    line = failing.deliveries()[-1]
    assert (line["severity"], line["handlers"], line["failed"]) == (
        "ERROR",
        ["a_good.works"],
        ["b_failing.fails"],
    )
    assert "RuntimeError: no value of the event" in line["stack_trace"]


def test_a_rejecting_handler_is_200_with_its_name(failing: Receiver) -> None:
    response = failing.post(samples.load("packets.deleted"))
    assert response.status_code == 200
    assert response.json()["handlers"] == ["a_good.works"]
    assert response.json()["rejected"] == ["b_failing.rejects"]
    line = failing.deliveries()[-1]
    assert line["severity"] == "WARNING"
    assert "not kept" in line["message"]
    assert "it is not ours" in line["message"]


def test_a_failure_counts_more_than_a_rejection(failing: Receiver) -> None:
    response = failing.post(samples.load("users.created"))
    assert response.status_code == 500
    assert response.json()["failed"] == ["b_failing.fails"]


def test_what_nobody_handles_is_accepted_and_the_log_says_how_to_handle_it(failing: Receiver) -> None:
    response = failing.post(samples.load("projects.updated"))
    assert response.status_code == 200
    assert response.json()["handlers"] == []
    assert '@on("projects.updated")' in failing.deliveries()[-1]["message"]


def test_the_trace_is_named_in_full_where_the_project_is_known(failing: Receiver) -> None:
    failing.post(EVENT, {b"x-cloud-trace-context": b"105445aa7843bc8bf206b12000100000/1;o=1"})
    line = failing.deliveries()[-1]
    assert line["logging.googleapis.com/trace"] == "projects/acme/traces/105445aa7843bc8bf206b12000100000"
    assert line["logging.googleapis.com/spanId"] == "0000000000000001"


def test_events_decides_what_is_dropped(tmp_path: Path) -> None:
    with receiver(tmp_path, EVENTS="packet_comments.*, *.deleted") as chosen:
        outcomes = {name: chosen.post(samples.load(name)).json() for name in samples.TYPES}
        assert len(chosen.deliveries()) == len(samples.TYPES)
    handled = {name for name, answer in outcomes.items() if answer["outcome"] == "handled"}
    assert handled == {n for n in samples.TYPES if n.startswith("packet_comments.") or n.endswith(".deleted")}
    ignored = [answer for name, answer in outcomes.items() if name not in handled]
    assert all(
        set(answer) == {"id", "type", "outcome"} and answer["outcome"] == "ignored" for answer in ignored
    )


def test_the_limit_of_the_body_is_exact(tmp_path: Path) -> None:
    with receiver(tmp_path, MAX_BODY_BYTES=str(len(EVENT))) as small:
        assert small.post(EVENT).status_code == 200
        assert small.post(EVENT + b" ").status_code == 413


def test_a_sender_that_goes_away_is_logged_and_harms_nobody(tmp_path: Path) -> None:
    with receiver(tmp_path) as cut:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"
        with socket.create_connection(("127.0.0.1", cut.port)) as connection:
            connection.sendall(head)
        assert cut.post(EVENT).status_code == 200
        until(lambda: "incomplete-body" in [line["outcome"] for line in cut.deliveries()])


def test_a_stopped_receiver_finishes_what_it_has_taken(tmp_path: Path) -> None:
    slow = """
import logging, time
from flowhook import on

@on("*")
def slow(event):
    logging.getLogger(__name__).info("taken")
    time.sleep(1)
"""
    with receiver(tmp_path, project(tmp_path, slow=slow)) as stopping, ThreadPoolExecutor() as pool:
        answers = [pool.submit(stopping.post, samples.load(name)) for name in samples.TYPES[:5]]
        until(lambda: stopping.output().count("taken") == 5)
        stopping.process.terminate()
        assert [answer.result().status_code for answer in answers] == [200] * 5
        assert stopping.process.wait(PATIENCE) == 0
        assert not listens(stopping.port)
