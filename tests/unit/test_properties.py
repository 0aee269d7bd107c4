"""Whatever arrives: no 5xx, no exception, no lost event, no forged one.

HYPOTHESIS_PROFILE=long makes 3,000 examples of each test, more than 10,000 requests in one run.
"""

import asyncio
import base64
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import functions_framework
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from flowhook import events, samples
from flowhook.auth import Authenticator
from flowhook.categories import CATEGORIES, classify
from flowhook.errors import AuthenticationFailed, NotAnEvent, NotJson
from flowhook.schemes import SCHEMES, Candidate
from flowhook.secret import Secrets
from tests.support import handlers as handlers_of_the_tests
from tests.support.receiver import ROOT, SECRET, pinned
from tests.support.requests import reading
from tests.support.strategies import JSON

DOCUMENTS = {name: json.loads(samples.load(name)) for name in samples.TYPES}
FIELDS = sorted({field for document in DOCUMENTS.values() for field in document})
NAMES = st.sampled_from(samples.TYPES)
HEADER_NAMES = st.sampled_from(
    [
        "authorization",
        "x-signature",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "content-type",
        "x-a",
    ]
) | st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
# What HTTP allows in a value: no control characters but a tab, every byte above.
HEADER_VALUES = st.binary(max_size=80).map(
    lambda raw: bytes(b for b in raw if b == 9 or 32 <= b < 127 or b > 127)
)
PROOF_PIECES = st.sampled_from(
    [b"Bearer ", b"Basic ", b"sha256=", b"v1,", b"v1=", b"=", b":", b" ", SECRET[:-1]]
)
RUBBISH = st.lists(PROOF_PIECES | HEADER_VALUES, max_size=4).map(b"".join)
FORMS = [scheme.spelling().replace("NAME", "x-name") for scheme in SCHEMES.values()]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """The application that the functions framework makes of main.py, with the handlers of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "handlers", handlers_of_the_tests)
        patch.setenv("WEBHOOK_SECRET", SECRET.decode())
        patch.setenv("LOG_LEVEL", "CRITICAL")
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        app = functions_framework.create_app("receive", str(ROOT / "main.py"))
        with TestClient(app, raise_server_exceptions=True) as made:
            yield made
        root.handlers, root.level = handlers, level


def post(client: TestClient, body: bytes, headers: dict[bytes, bytes]) -> int:
    merged = [(b"content-type", b"application/json"), *headers.items()]
    return client.post("/", content=body, headers=merged).status_code


BEARER = {b"authorization": b"Bearer " + SECRET}


@given(body=st.binary(max_size=300))
def test_no_body_makes_a_5xx(client: TestClient, body: bytes) -> None:
    assert post(client, body, BEARER) in (200, 400, 422)


@given(document=JSON)
def test_no_json_makes_a_5xx(client: TestClient, document: Any) -> None:
    assert post(client, json.dumps(document).encode(), BEARER) == 422


@given(name=NAMES, field=st.sampled_from(FIELDS), value=JSON)
def test_no_field_makes_a_5xx(client: TestClient, name: str, field: str, value: Any) -> None:
    body = json.dumps({**DOCUMENTS[name], field: value}).encode()
    assert post(client, body, BEARER) in (200, 422)


@given(name=NAMES, at=st.integers(0, 400), piece=st.binary(max_size=6), cut=st.integers(0, 6))
def test_no_damaged_event_makes_a_5xx(client: TestClient, name: str, at: int, piece: bytes, cut: int) -> None:
    body = samples.load(name)
    assert post(client, body[:at] + piece + body[at + cut :], BEARER) in (200, 400, 422)


@given(
    headers=st.dictionaries(HEADER_NAMES.map(str.encode), RUBBISH.map(bytes.strip), max_size=8), name=NAMES
)
def test_no_header_makes_a_5xx_or_lets_anybody_in(
    client: TestClient, headers: dict[bytes, bytes], name: str
) -> None:
    assert post(client, samples.load(name), headers) == 401


@given(name=NAMES, extra=st.dictionaries(st.text(), JSON, max_size=4), where=st.integers(0, 4))
def test_a_valid_event_survives_whatever_unknown_fields_it_has(
    client: TestClient, name: str, extra: dict[str, Any], where: int
) -> None:
    document = json.loads(samples.load(name))
    state = document["data"]["value"] or document["data"]["oldValue"]
    place = [document, document["data"], state, state["properties"], state["properties"]][where]
    place.update({key: value for key, value in extra.items() if key not in place})
    body = json.dumps(document).encode()
    event = events.parse(body)
    assert event.type == name
    assert event.body == body
    assert post(client, body, BEARER) == 200


@given(text=st.text(st.characters(categories=None)), name=NAMES)
def test_a_valid_event_survives_any_text_lone_surrogates_included(
    client: TestClient, text: str, name: str
) -> None:
    document = {**DOCUMENTS[name], "comment": text}
    assert post(client, json.dumps(document).encode(), BEARER) == 200


@given(body=st.binary(max_size=100) | JSON.map(lambda document: json.dumps(document).encode()))
def test_parsing_makes_an_event_or_a_problem(body: bytes) -> None:
    try:
        events.parse(body)
    except (NotJson, NotAnEvent) as problem:
        json.dumps([problem.detail, *problem.members.values()])


SEGMENTS = st.sampled_from(["", "comments", "pipelinesPackets", "users", "x", "*"]) | st.text(max_size=8)
PATHS = st.lists(SEGMENTS, max_size=6).map("/".join)


@given(PATHS, PATHS, PATHS)
def test_every_path_has_one_category(entity_path: str, collection_path: str, entity_key: str) -> None:
    assert classify(entity_path, collection_path, entity_key) in (*CATEGORIES, "other")


@given(
    collection=st.sampled_from(["pipelinesPackets", "users", "pipelinesPacketsLabels"]),
    ids=st.tuples(*[st.text(st.characters(exclude_characters="/"), min_size=1)] * 2),
    before=st.lists(st.text(st.characters(exclude_characters="/"), min_size=1), max_size=2),
)
def test_ids_and_what_is_above_never_change_the_category(
    collection: str, ids: tuple[str, str], before: list[str]
) -> None:
    above = [part for name in before for part in (name, ids[0])]
    assert classify("/".join([*above, collection, ids[1]]), "", "") == classify(f"{collection}/x", "", "")


def proven(form: str, proof: Candidate, secret: bytes) -> bool:
    for scheme in (pinned(form), None):
        try:
            asyncio.run(
                Authenticator(scheme, Secrets(secret)).authenticate(
                    proof.headers, proof.query, reading(proof.body)
                )
            )
        except AuthenticationFailed:
            if scheme is not None or not form.startswith("query"):
                return False
    return True


@given(form=st.sampled_from(FORMS), secret=st.binary(min_size=1, max_size=80), body=st.binary(max_size=80))
def test_what_is_signed_is_authentic(form: str, secret: bytes, body: bytes) -> None:
    secret = secret.strip()
    if secret:
        proof = pinned(form).sign(secret, body)
        assert proven(form, Candidate(proof.headers, body, proof.query), secret)


@given(
    form=st.sampled_from([form for form in FORMS if form.startswith(("hmac", "standard"))]),
    secret=st.binary(min_size=1, max_size=80),
    signed=st.binary(max_size=80),
    sent=st.binary(max_size=80),
)
def test_a_signature_over_other_bytes_never_passes(
    form: str, secret: bytes, signed: bytes, sent: bytes
) -> None:
    proof = pinned(form).sign(secret, signed)
    assert proven(form, Candidate(proof.headers, sent), secret) == (signed == sent)


@given(
    form=st.sampled_from(FORMS),
    secret=st.binary(max_size=40),
    other=st.binary(max_size=40),
    body=st.binary(max_size=40),
)
def test_another_secret_never_passes(form: str, secret: bytes, other: bytes, body: bytes) -> None:
    proof = pinned(form).sign(other, body)
    request = Candidate(proof.headers, body, proof.query)
    # HMAC pads its key with zeros, so a secret and itself with zero bytes behind are one key.
    if secret.rstrip(b"\0") != other.rstrip(b"\0") and not _same_key(secret, other):
        assert not proven(form, request, secret)


def _same_key(one: bytes, other: bytes) -> bool:
    """Whether Standard Webhooks takes one secret for the base64 of the other."""

    def decoded(secret: bytes) -> bytes:
        try:
            return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except ValueError:
            return secret

    return decoded(one) in (other, decoded(other)) or decoded(other) == one
