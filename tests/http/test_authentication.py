"""Every form of authentication, with right and wrong secrets; from outside where HTTP can show it."""

import asyncio
import base64
import hashlib
import hmac
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowhook import samples, schemes
from flowhook.auth import Authenticator
from flowhook.errors import AuthenticationFailed
from flowhook.schemes import SCHEMES, Candidate, Hmac, Scheme, StandardWebhooks
from flowhook.secret import Secrets
from tests.support.receiver import SECRET, Receiver, receiver, until
from tests.support.receiver import pinned as scheme_of
from tests.support.requests import reading

# Each test starts processes.
pytestmark = pytest.mark.slow

EVENT = samples.load("users.updated")
HEADER_FORMS = ["bearer", "basic", "header:x-flows-secret", "standard-webhooks"]
ALGORITHMS = [scheme.algorithm for scheme in SCHEMES.values() if issubclass(scheme, Hmac)]
HMAC_FORMS = [f"hmac-{algorithm}:x-flows-signature" for algorithm in ALGORITHMS]
FORMS = [*HEADER_FORMS, *HMAC_FORMS, "query:token"]


def digest(algorithm: str, secret: bytes = SECRET) -> bytes:
    return hmac.digest(secret, EVENT, algorithm)


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


def standard(secret_key: bytes = SECRET, offset: int = 0, body: bytes = EVENT) -> dict[bytes, bytes]:
    """The headers of Standard Webhooks, made without the code under test."""
    timestamp = str(int(time.time()) + offset).encode()
    signature = base64.b64encode(hmac.digest(secret_key, b"msg_1." + timestamp + b"." + body, "sha256"))
    return {
        b"webhook-id": b"msg_1",
        b"webhook-timestamp": timestamp,
        b"webhook-signature": b"v1," + signature,
    }


# Header, the value with the secret, the WEBHOOK_AUTH that pins it. None of it is made by `sign`.
SPELLINGS = [
    (b"x-flows-secret", SECRET, "header:x-flows-secret"),
    (b"x-flows-secret", b"  " + SECRET + b" ", "header:x-flows-secret"),
    (b"authorization", SECRET, "header:authorization"),
    (b"authorization", b"Bearer " + SECRET, "bearer"),
    (b"authorization", b"bearer   " + SECRET, "bearer"),
    (b"authorization", b"Token " + SECRET, "header:authorization"),
    (b"x-api-key", b"Secret " + SECRET, "header:x-api-key"),
    (b"authorization", basic(b"", SECRET), "basic"),
    (b"authorization", basic(b"flows", SECRET), "basic"),
    (b"x-auth", basic(b"flows", SECRET), "header:x-auth"),
    (b"x-signature", digest("sha256").hex().encode(), "hmac-sha256:x-signature"),
    (b"x-signature", digest("sha256").hex().upper().encode(), "hmac-sha256:x-signature"),
    (b"x-hub-signature-256", b"sha256=" + digest("sha256").hex().encode(), "hmac-sha256:x-hub-signature-256"),
    (b"x-signature", b"v1=" + digest("sha256").hex().encode(), "hmac-sha256:x-signature"),
    (b"x-signature", base64.b64encode(digest("sha256")), "hmac-sha256:x-signature"),
    (b"x-signature", base64.urlsafe_b64encode(digest("sha256")).rstrip(b"="), "hmac-sha256:x-signature"),
    (b"x-signature", b"sha256=" + base64.b64encode(digest("sha256")), "hmac-sha256:x-signature"),
    (b"x-hub-signature", b"sha1=" + digest("sha1").hex().encode(), "hmac-sha1:x-hub-signature"),
    (b"x-signature", base64.b64encode(digest("sha1")), "hmac-sha1:x-signature"),
    (b"x-signature", b"sha512=" + digest("sha512").hex().encode(), "hmac-sha512:x-signature"),
    (b"x-signature", base64.b64encode(digest("sha512")), "hmac-sha512:x-signature"),
]
# A forgery, or what makes one at the time of the test: its timestamp would be too old by then.
FORGED: list[dict[bytes, bytes] | Callable[[], dict[bytes, bytes]]] = [
    {},
    {b"authorization": b""},
    {b"authorization": b"Bearer"},
    {b"authorization": b"Bearer " + SECRET[:-1]},
    {b"authorization": b"Bearer " + SECRET + b"x"},
    {b"authorization": b"Bearer " + SECRET.upper()},
    {b"authorization": b"Digest " + SECRET},
    {b"authorization": b"Basic " + SECRET},
    {b"authorization": b"Basic !!!"},
    {b"authorization": b"Basic " + b"\xff\xfe"},
    {b"authorization": basic(SECRET, b"")},
    {b"x-signature": digest("sha256", b"wrong").hex().encode()},
    {b"x-signature": digest("sha256", b"").hex().encode()},
    {b"x-signature": hashlib.sha256(EVENT).hexdigest().encode()},
    {b"x-signature": b"sha256=" + digest("sha256").hex().encode()[:-1]},
    {b"x-signature": b"sha256=" + b"z" * 64},
    {b"x-signature": b"sha256=" + b"\xff" * 64},
    {b"x-signature": b"=" * 64},
    {b"x-signature": b"\xc3\xa9" * 32},
    {b"x-rubbish": bytes(range(0x80, 0x100)) * 20},
    {f"x-header-{n}".encode(): f"value {n}".encode() for n in range(100)},
    lambda: standard(b"wrong"),
    lambda: standard(offset=-301),
    lambda: standard(offset=+3600),
    lambda: standard(body=EVENT + b" "),
    lambda: {**standard(), b"webhook-id": b"msg_2"},
    lambda: {**standard(), b"webhook-signature": b"v1"},
    lambda: {**standard(), b"webhook-signature": b"v1a," + b"A" * 44},
    lambda: {**standard(), b"webhook-timestamp": b"9" * 5000},
    lambda: {**standard(), b"webhook-timestamp": b"-1"},
    lambda: {**standard(), b"webhook-timestamp": "١٢٣".encode()},
    lambda: {name: value for name, value in standard().items() if name != b"webhook-id"},
]


@pytest.fixture(scope="module", params=FORMS)
def pinned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Receiver]]:
    with receiver(tmp_path_factory.mktemp("pinned"), WEBHOOK_AUTH=request.param) as started:
        yield request.param, started


def test_a_pinned_form_accepts_that_way_alone(pinned: tuple[str, Receiver]) -> None:
    pin, started = pinned
    accepted = {form for form in FORMS if started.post(EVENT, form=form).status_code == 200}
    assert accepted == {pin}


def test_a_pinned_form_refuses_a_wrong_secret_and_another_body(pinned: tuple[str, Receiver]) -> None:
    pin, started = pinned
    assert started.post(EVENT, form=pin, secret=b"wrong").status_code == 401
    assert started.post(EVENT, form=pin, secret=SECRET + b"0").status_code == 401
    signs_the_body = pin.startswith(("hmac", "standard"))
    proof = scheme_of(pin).sign(SECRET, EVENT)
    other = started.client.post(f"/?{proof.query.decode()}", content=EVENT + b" ", headers=proof.headers)
    assert other.status_code == (401 if signs_the_body else 200)


@pytest.mark.parametrize(("header", "value", "pin"), SPELLINGS)
def test_auto_accepts_every_spelling_and_says_how_to_pin_it(header: bytes, value: bytes, pin: str) -> None:
    request = Candidate({b"host": b"localhost", header: value}, EVENT)
    authenticator = Authenticator(None, Secrets(b"another", SECRET))
    asyncio.run(authenticator.authenticate(request.headers, b"", reading(EVENT)))
    assert str(authenticator._found) == pin
    pinned = Authenticator(scheme_of(pin), Secrets(SECRET))
    asyncio.run(pinned.authenticate(request.headers, b"", reading(EVENT)))


@pytest.mark.parametrize("forgery", FORGED, ids=range(len(FORGED)))
def test_auto_refuses_every_forgery(
    running: Receiver, forgery: dict[bytes, bytes] | Callable[[], dict[bytes, bytes]]
) -> None:
    response = running.post(EVENT, forgery() if callable(forgery) else forgery, secret=None)
    assert response.status_code == 401


@pytest.mark.parametrize("form", [form for form in FORMS if form != "query:token"])
def test_auto_accepts_every_form_but_a_query(running: Receiver, form: str) -> None:
    assert running.post(EVENT, form=form).status_code == 200
    assert running.post(EVENT, form=form, secret=b"wrong").status_code == 401


def test_auto_does_not_accept_a_query(running: Receiver) -> None:
    assert running.post(EVENT, form="query:token").status_code == 401


def test_auto_logs_once_which_way_matched(tmp_path: Path) -> None:
    with receiver(tmp_path) as started:
        started.post(EVENT, secret=None)
        for form in ("hmac-sha256:x-flows-signature", "hmac-sha256:x-flows-signature", "bearer"):
            assert started.post(EVENT, form=form).status_code == 200
        told = [line["message"] for line in started.lines() if line["logger"] == "flowhook.auth"]
    assert len(told) == 1
    assert "WEBHOOK_AUTH=hmac-sha256:x-flows-signature" in told[0]


@pytest.mark.parametrize("offset", [-299, 0, 299])
def test_standard_webhooks_tolerates_five_minutes(offset: int) -> None:
    assert StandardWebhooks().verify(Candidate(standard(offset=offset), EVENT), SECRET)


@pytest.mark.parametrize("offset", [-302, 302])
def test_standard_webhooks_tolerates_no_more(offset: int) -> None:
    assert not StandardWebhooks().verify(Candidate(standard(offset=offset), EVENT), SECRET)


def test_standard_webhooks_accepts_any_of_several_signatures() -> None:
    headers = standard()
    headers[b"webhook-signature"] = b"v1,AAAA v2,abc " + headers[b"webhook-signature"]
    assert StandardWebhooks().verify(Candidate(headers, EVENT), SECRET)


def test_standard_webhooks_takes_a_prefixed_secret_for_the_base64_of_its_key() -> None:
    key = os.urandom(24)
    secret = b"whsec_" + base64.b64encode(key)
    scheme = StandardWebhooks()
    assert scheme.verify(Candidate(standard(key), EVENT), secret)
    assert scheme.verify(Candidate(scheme.sign(secret, EVENT).headers, EVENT), secret)
    assert not scheme.verify(Candidate(standard(secret), EVENT), secret)


@pytest.mark.parametrize("kind", SCHEMES.values(), ids=list(SCHEMES))
def test_an_empty_secret_proves_nothing(kind: type[Scheme]) -> None:
    scheme = kind("x-name" if kind.named else "")
    proof = scheme.sign(b"", EVENT)
    assert not scheme.verify(Candidate(proof.headers, EVENT, proof.query), b"")


@pytest.mark.parametrize("form", FORMS)
def test_no_secret_means_that_nothing_is_accepted(form: str) -> None:
    proof = scheme_of(form).sign(SECRET, EVENT)
    for authenticator in (Authenticator(None, Secrets()), Authenticator(scheme_of(form), Secrets())):
        with pytest.raises(AuthenticationFailed):
            asyncio.run(authenticator.authenticate(proof.headers, b"", reading(EVENT)))


@pytest.mark.parametrize(
    "secret", ["pässwörd-of-enough-length".encode(), b"a+b&c=d %41 of enough length", b"\xff\xfe\xfd" * 8]
)
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_of_any_bytes_travels_in_every_form(form: str, secret: bytes) -> None:
    parsed = scheme_of(form)
    proof = parsed.sign(secret, EVENT)
    assert parsed.verify(Candidate(proof.headers, EVENT, proof.query), secret)


def test_the_guides_example_secret_is_accepted_and_warned_about(tmp_path: Path) -> None:
    with receiver(tmp_path, WEBHOOK_SECRET=" 12345678\n") as started:
        assert started.post(EVENT, secret=b"12345678").status_code == 200
        warnings = [line["message"] for line in started.lines() if line["severity"] == "WARNING"]
    assert len(warnings) == 1
    assert "16" in warnings[0]
    assert "12345678" not in started.output()


def test_a_secret_file_holds_several_and_follows_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    old, new = b"the-old-secret-0123456789", b"the-new-secret-0123456789"
    path.write_bytes(b"\xef\xbb\xbf  " + old + b" \r\n\n")
    with receiver(tmp_path, WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(path)) as started:
        assert started.post(EVENT, secret=old).status_code == 200
        assert started.post(EVENT, secret=new).status_code == 401
        path.write_bytes(new + b"\n" + old + b"\n")
        until(lambda: started.post(EVENT, secret=new).status_code == 200)
        assert started.post(EVENT, secret=old).status_code == 200
        path.write_bytes(new)
        until(lambda: started.post(EVENT, secret=old).status_code == 401)
        assert started.post(EVENT, secret=new).status_code == 200
        assert old.decode() not in started.output()
        assert new.decode() not in started.output()


def test_a_huge_body_without_a_secret_is_401(running: Receiver) -> None:
    body = b"[" * (8 * 1024 * 1024)
    signatures = {f"x-{a}".encode(): f"{a}={'0' * len(digest(a).hex())}".encode() for a in ALGORITHMS}
    assert running.post(body, signatures, secret=None).status_code == 401


def test_bytes_that_are_no_http_harm_nobody(running: Receiver) -> None:
    for rubbish in (
        b"\x00\xff\xfe\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n\xff\xfe: \x01\r\n\r\n",
        b"POST /\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", running.port), 5) as connection:
            connection.sendall(rubbish)
            assert not connection.recv(1000).startswith(b"HTTP/1.1 5")
    assert running.post(EVENT).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "header",
        "header:",
        "header:a b",
        "bearer:x",
        "hmac-md5:x",
        "hmac-sha256",
        "query:",
        "auto:x",
        "header:é",
    ],
)
def test_an_unknown_form_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is none of|needs the name|takes no name"):
        schemes.parse(text)


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="it is none of") as mistake:
        schemes.parse(SECRET.decode())
    assert SECRET.decode() not in str(mistake.value)


def test_a_form_reads_what_it_writes() -> None:
    assert [str(scheme_of(form)) for form in FORMS] == FORMS
    assert str(schemes.parse(" Header: X-Secret ")) == "header:x-secret"


def test_auto_is_no_scheme() -> None:
    assert schemes.parse("auto") is None
    with pytest.raises(ValueError, match="auto takes no name"):
        schemes.parse("auto:x-signature")


def status_without_a_body(port: int, headers: dict[bytes, bytes], length: int = 5_000_000) -> int:
    """The answer's status, where the headers announce a body that never comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        lines = [b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % length]
        lines += [name + b": " + value for name, value in headers.items()]
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        return int(connection.recv(4096).split()[1])


MALFORMED = [
    ("bearer", {b"authorization": b"Bearer wrong"}),
    ("basic", {b"authorization": basic(b"flows", b"wrong")}),
    ("header:x-flows-secret", {b"x-flows-secret": b"wrong"}),
    ("hmac-sha256:x-flows-signature", {}),
    ("hmac-sha256:x-flows-signature", {b"x-flows-signature": b"sha256=too-short"}),
    ("standard-webhooks", {}),
    ("standard-webhooks", {b"webhook-id": b"m", b"webhook-timestamp": b"1", b"webhook-signature": b"v1,x"}),
]


@pytest.mark.parametrize(("pin", "headers"), MALFORMED)
def test_what_can_not_be_authentic_is_refused_before_its_body_is_read(
    tmp_path: Path, pin: str, headers: dict[bytes, bytes]
) -> None:
    with receiver(tmp_path, WEBHOOK_AUTH=pin) as started:
        assert status_without_a_body(started.port, headers) == 401
        # Also before it is too large: who is not authentic does not learn what that is.
        assert status_without_a_body(started.port, headers, 5_000_000_000) == 401
        assert started.client.get("/").status_code == 405


def test_a_large_body_is_authentic_like_any_other(tmp_path: Path) -> None:
    body = EVENT.rstrip()[:-1] + b', "padding": "' + b"x" * 1_000_000 + b'"}'
    for form in ("hmac-sha256:x-flows-signature", "standard-webhooks"):
        with receiver(tmp_path, WEBHOOK_AUTH=form) as started:
            assert started.post(body, form=form).status_code == 200
            assert started.post(body, form=form, secret=b"wrong").status_code == 401
