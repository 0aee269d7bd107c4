"""The token of a push: Google's own library, and a server on loopback in the place of Google's keys."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from hypothesis import given
from hypothesis import strategies as st

from flowhook import samples
from flowhook.errors import AuthenticationFailed, PublishFailed
from flowhook.pubsub import push_auth
from flowhook.pubsub.push_auth import PAUSE, SHORT_PAUSE, Keys, Verifier
from tests.support.clock import Clock
from tests.support.receiver import Receiver, project, receiver
from tests.support.strategies import JSON

AUDIENCE = "https://consume.example/"
ACCOUNT = "pusher@project.iam.gserviceaccount.com"
GOOD = {
    "iss": "https://accounts.google.com",
    "aud": AUDIENCE,
    "email": ACCOUNT,
    "email_verified": True,
    "sub": "113774264463038321964",
}


@cache
def private_key(key_id: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(key_id: str) -> str:
    key = private_key(key_id)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "keys.example")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@cache
def signer(key_id: str) -> crypt.RSASigner:
    pem = private_key(key_id).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made: crypt.RSASigner = crypt.RSASigner.from_string(pem)
    return made


def claims(*leave_out: str, **changes: object) -> dict[str, object]:
    now = int(time.time())
    made = {**GOOD, "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in made.items() if name not in leave_out}


def token(payload: object = None, header: object = None, key: str = "k1") -> bytes:
    """A token with the signature of `key`: a good one, but for what is given."""
    header = {"kid": key} if header is None else header
    made: bytes = jwt.encode(signer(key), claims() if payload is None else payload, header)
    return made


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def by_hand(header: bytes, sign: Callable[[bytes], bytes], payload: bytes | None = None) -> bytes:
    """A token with a header that the library would not write."""
    signed = encoded(header) + b"." + encoded(json.dumps(claims()).encode() if payload is None else payload)
    return signed + b"." + encoded(sign(signed))


def signature(signed: bytes) -> bytes:
    made: bytes = signer("k1").sign(signed)
    return made


def public_signature(signed: bytes) -> bytes:
    return hmac.digest(certificate("k1").encode(), signed, hashlib.sha256)


class Google(ThreadingHTTPServer):
    """Serves certificates as Google does, and counts how often."""

    # A test that goes on while a request hangs must not wait for it.
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GoogleHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/oauth2/v1/certs"
        self.requests = 0
        self.status = 200
        self.headers = {"Cache-Control": "public, max-age=20000, must-revalidate, no-transform"}
        self.body = b""
        self.before_answer: Callable[[], object] = bool
        self.serves("k1", "k2")

    def serves(self, *key_ids: str) -> None:
        self.body = json.dumps({key_id: certificate(key_id) for key_id in key_ids}).encode()


class GoogleHandler(BaseHTTPRequestHandler):
    server: Google

    def do_GET(self) -> None:
        assert self.path == "/oauth2/v1/certs"
        self.server.requests += 1
        self.server.before_answer()
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "Content-Length": str(len(self.server.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing on standard error."""


@contextmanager
def serving() -> Iterator[Google]:
    server = Google()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        stop(server)
        thread.join()


def stop(server: Google) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with serving() as server:
        monkeypatch.setattr(push_auth, "CERTIFICATES", server.url)
        yield server


@pytest.fixture
def verifier(google: Google, clock: Clock) -> Verifier:
    return Verifier(AUDIENCE, ACCOUNT, Keys(clock))


def verify(verifier: Verifier, token: bytes) -> None:
    verify_header(verifier, b"Bearer " + token)


def verify_header(verifier: Verifier, authorization: bytes) -> None:
    asyncio.run(verifier.verify({b"authorization": authorization}))


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "good": lambda: b"Bearer " + token(),
    "scheme in lower case": lambda: b"bearer " + token(),
    "other key": lambda: b"Bearer " + token(key="k2"),
    "other name of Google": lambda: b"Bearer " + token(claims(iss="accounts.google.com")),
    "a little early": lambda: b"Bearer " + token(claims(iat=time.time() + 8)),
    "a little late": lambda: b"Bearer " + token(claims(exp=time.time() - 5)),
    "other claims": lambda: b"Bearer " + token(claims("sub", azp="x", more={"y": [1]})),
}


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED)
def test_a_token_of_ours_is_accepted(verifier: Verifier, header: Callable[[], bytes]) -> None:
    verify_header(verifier, header())


HEADERS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "scheme alone": lambda: b"Bearer",
    "no scheme": token,
    "other scheme": lambda: b"Basic " + token(),
    "scheme with more": lambda: b"Bearers " + token(),
    "tab for a space": lambda: b"Bearer\t" + token(),
    "twice": lambda: b"Bearer " + token() + b", Bearer " + token(),
}
MALFORMED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "garbage": lambda: b"rubbish",
    "dots": lambda: b"..",
    "two parts": lambda: token().rpartition(b".")[0],
    "four parts": lambda: token() + b".x",
    "not base64": lambda: b"a.b.c",
    "non-ASCII": lambda: b"\xff\xfe.\xff.\xff",
    "non-ASCII in the header": lambda: by_hand(b'{"kid": "\xff"}', signature),
    "huge": lambda: b"x" * 1_000_000,
    "huge parts": lambda: b".".join([b"x" * 300_000] * 3),
    "header is a list": lambda: by_hand(b"[]", signature),
    "header is null": lambda: by_hand(b"null", signature),
    "header has a huge number": lambda: by_hand(b'{"kid": %s}' % (b"9" * 5_000), signature),
    "payload is a list": lambda: token([GOOD]),
    "payload is no JSON": lambda: by_hand(b'{"kid": "k1", "alg": "RS256"}', signature, b"{"),
}
FORGED: dict[str, Callable[[], bytes]] = {
    "signed by a stranger": lambda: token(header={"kid": "k1"}, key="stranger"),
    "signed by another of Google's keys": lambda: token(header={"kid": "k1"}, key="k2"),
    "signature of another token": lambda: b".".join(
        [token(claims(sub="x")).rpartition(b".")[0], token().rpartition(b".")[2]]
    ),
    "no signature": lambda: token().rpartition(b".")[0] + b".",
    "alg none": lambda: by_hand(b'{"kid": "k1", "alg": "none"}', lambda _: b""),
    "alg missing": lambda: by_hand(b'{"kid": "k1"}', signature),
    "alg is a list": lambda: by_hand(b'{"kid": "k1", "alg": ["RS256"]}', signature),
    "HS256 under the certificate": lambda: by_hand(b'{"kid": "k1", "alg": "HS256"}', public_signature),
    "ES256 over an RSA key": lambda: by_hand(b'{"kid": "k1", "alg": "ES256"}', lambda _: b"x" * 64),
    "unknown kid": lambda: token(header={"kid": "stranger"}),
    "kid missing": lambda: by_hand(b'{"alg": "RS256"}', signature),
    "kid is null": lambda: by_hand(b'{"kid": null, "alg": "RS256"}', signature),
    "kid is empty": lambda: by_hand(b'{"kid": "", "alg": "RS256"}', signature),
    "kid is a list": lambda: by_hand(b'{"kid": ["k1"], "alg": "RS256"}', signature),
    "kid is half an emoji": lambda: by_hand(b'{"kid": "\\ud83d", "alg": "RS256"}', signature),
}
CLAIMS: dict[str, Callable[[], dict[str, object]]] = {
    "other audience": lambda: claims(aud=AUDIENCE[:-1]),
    "audience is a list": lambda: claims(aud=[AUDIENCE]),
    "audience is an object": lambda: claims(aud={AUDIENCE: 1}),
    "audience is null": lambda: claims(aud=None),
    "no audience": lambda: claims("aud"),
    "other issuer": lambda: claims(iss="https://accounts.google.com.example"),
    "issuer is a list": lambda: claims(iss=["https://accounts.google.com"]),
    "no issuer": lambda: claims("iss"),
    "other e-mail": lambda: claims(email="x" + ACCOUNT),
    "e-mail in upper case": lambda: claims(email=ACCOUNT.upper()),
    "e-mail is a list": lambda: claims(email=[ACCOUNT]),
    "e-mail is null": lambda: claims(email=None),
    "no e-mail": lambda: claims("email"),
    "e-mail not verified": lambda: claims(email_verified=False),
    "e-mail verified in words": lambda: claims(email_verified="true"),
    "e-mail verified by a number": lambda: claims(email_verified=1),
    "nothing says that the e-mail is verified": lambda: claims("email_verified"),
    "expired": lambda: claims(exp=time.time() - 30),
    "issued in the future": lambda: claims(iat=time.time() + 30),
    "exp is text": lambda: claims(exp=str(time.time() + 3600)),
    "exp is null": lambda: claims(exp=None),
    "iat is a list": lambda: claims(iat=[0]),
    "no iat": lambda: claims("iat"),
    "no exp": lambda: claims("exp"),
}


@pytest.fixture(scope="module")
def downloaded() -> Iterator[Verifier]:
    """A verifier that has its keys, and would get the same again."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(push_auth, "CERTIFICATES", server.url)
        made = Verifier(AUDIENCE, ACCOUNT)
        verify(made, token())
        yield made


def refused(verifier: Verifier, authorization: bytes) -> None:
    with pytest.raises(AuthenticationFailed) as refusal:
        verify_header(verifier, authorization)
    # Tracebacks are logged, and the library's messages quote the token.
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_without_a_bearer_token_is_refused(
    downloaded: Verifier, header: Callable[[], bytes]
) -> None:
    refused(downloaded, header())


@pytest.mark.parametrize("made", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_token_is_refused(downloaded: Verifier, made: Callable[[], bytes]) -> None:
    refused(downloaded, b"Bearer " + made())


@pytest.mark.parametrize("made", FORGED.values(), ids=FORGED)
def test_a_token_that_google_did_not_sign_is_refused(downloaded: Verifier, made: Callable[[], bytes]) -> None:
    refused(downloaded, b"Bearer " + made())


@pytest.mark.parametrize("made", CLAIMS.values(), ids=CLAIMS)
def test_a_token_that_google_signed_for_somebody_else_is_refused(
    downloaded: Verifier, made: Callable[[], dict[str, object]]
) -> None:
    refused(downloaded, b"Bearer " + token(made()))


def test_no_header_is_refused(downloaded: Verifier) -> None:
    with pytest.raises(AuthenticationFailed):
        asyncio.run(downloaded.verify({}))


@pytest.mark.parametrize("place", ["header", "payload"])
def test_a_token_nested_too_deep_is_refused(downloaded: Verifier, place: str) -> None:
    deep = b"[" * 20_000
    made = by_hand(deep, signature) if place == "header" else by_hand(b"{}", signature, deep)
    with pytest.raises(AuthenticationFailed):
        verify(downloaded, made)


@given(header=st.binary(max_size=100) | st.lists(st.binary(max_size=40).map(encoded)).map(b".".join))
def test_whatever_the_header_is_it_is_refused(downloaded: Verifier, header: bytes) -> None:
    for prefix in (b"", b"Bearer "):
        with pytest.raises(AuthenticationFailed):
            verify_header(downloaded, prefix + header)


@given(name=st.sampled_from(["iss", "aud", "email", "email_verified"]), value=JSON)
def test_whatever_else_google_signs_is_refused(downloaded: Verifier, name: str, value: Any) -> None:
    if value is not GOOD[name]:
        with pytest.raises(AuthenticationFailed):
            verify(downloaded, token(claims(**{name: value})))


def test_keys_are_downloaded_once(verifier: Verifier, google: Google, clock: Clock) -> None:
    for key in ("k1", "k2", "k1"):
        verify(verifier, token(key=key))
        clock.now += 5_000
    assert google.requests == 1


def test_keys_are_downloaded_again_when_they_have_expired(
    verifier: Verifier, google: Google, clock: Clock
) -> None:
    verify(verifier, token())
    google.serves("k2")
    clock.now += 19_999
    verify(verifier, token())
    assert google.requests == 1
    clock.now += 1
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token())
    assert google.requests == 2
    verify(verifier, token(key="k2"))


@pytest.mark.parametrize("cache_control", ["", "no-store", "max-age=0", "max-age=x", f"max-age={PAUSE - 1}"])
def test_keys_without_a_long_life_are_kept_for_a_pause(
    verifier: Verifier, google: Google, clock: Clock, cache_control: str
) -> None:
    google.headers = {"Cache-Control": cache_control}
    verify(verifier, token())
    clock.now += PAUSE - 1
    verify(verifier, token())
    assert google.requests == 1
    clock.now += 1
    verify(verifier, token())
    assert google.requests == 2


def test_a_new_key_is_picked_up_before_the_old_ones_expire(
    verifier: Verifier, google: Google, clock: Clock
) -> None:
    verify(verifier, token())
    google.serves("k2", "k3")
    clock.now += PAUSE
    verify(verifier, token(key="k3"))
    assert google.requests == 2
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token())


def test_invented_keys_cause_one_download_in_a_pause(
    verifier: Verifier, google: Google, clock: Clock
) -> None:
    verify(verifier, token())

    def invent() -> None:
        for number in range(20):
            with pytest.raises(AuthenticationFailed):
                verify(verifier, token(header={"kid": f"invented-{number}"}))

    invent()
    assert google.requests == 1
    clock.now += PAUSE - 0.001
    invent()
    assert google.requests == 1
    clock.now += 0.001
    invent()
    assert google.requests == 2
    verify(verifier, token())
    assert google.requests == 2


def test_first_requests_at_once_share_one_download(verifier: Verifier, google: Google) -> None:
    tokens = [token(key=key) for key in ("k1", "k2") * 20]

    async def scenario() -> None:
        await asyncio.gather(*(verifier.verify({b"authorization": b"Bearer " + each}) for each in tokens))

    asyncio.run(scenario())
    assert google.requests == 1


def test_who_has_a_known_key_does_not_wait_for_a_download(
    verifier: Verifier, google: Google, clock: Clock
) -> None:
    verify(verifier, token())
    clock.now += PAUSE
    asked, release = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        release.wait(20)

    google.before_answer = hold

    async def scenario() -> None:
        unknown = {b"authorization": b"Bearer " + token(header={"kid": "unknown"})}
        waiting = asyncio.create_task(verifier.verify(unknown))
        assert await asyncio.to_thread(asked.wait, 20)
        await verifier.verify({b"authorization": b"Bearer " + token()})
        assert not waiting.done()
        release.set()
        with pytest.raises(AuthenticationFailed):
            await waiting

    asyncio.run(scenario())


def test_google_down_is_no_matter_while_the_keys_are_good_then_a_503(
    verifier: Verifier, google: Google, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    verify(verifier, token())
    stop(google)
    clock.now += 19_999
    verify(verifier, token())
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token(header={"kid": "unknown"}))
    clock.now += 1
    with caplog.at_level(logging.ERROR), pytest.raises(PublishFailed) as problem:
        verify(verifier, token())
    assert problem.value.status == 503
    assert "Google's keys can't be downloaded" in caplog.text


# Status and body; None is the keys themselves.
Failure = tuple[int, bytes | None]
FAILURES: dict[str, Failure] = {
    "500 without JSON": (500, b"sorry"),
    "500 with an object": (500, b"{}"),
    "500 with keys": (500, None),
    "404": (404, b"not found"),
    "nothing": (200, b""),
    "no JSON": (200, b"<html>"),
    "not UTF-8": (200, b'{"k1": "\xff"}'),
    "nested too deep": (200, b"[" * 100_000),
}


def fail(google: Google, failure: Failure) -> None:
    status, body = failure
    google.status, google.body = status, google.body if body is None else body


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_an_answer_without_keys_is_a_503_and_asked_for_again_soon(
    verifier: Verifier, google: Google, clock: Clock, failure: Failure
) -> None:
    fail(google, failure)
    for _ in range(3):
        with pytest.raises(PublishFailed):
            verify(verifier, token())
    assert google.requests == 1
    google.status = 200
    google.serves("k1")
    clock.now += SHORT_PAUSE
    verify(verifier, token())
    assert google.requests == 2


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_an_answer_without_keys_does_not_replace_good_ones(
    verifier: Verifier, google: Google, clock: Clock, failure: Failure
) -> None:
    verify(verifier, token())
    fail(google, failure)
    clock.now += PAUSE
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token(header={"kid": "unknown"}))
    assert google.requests == 2
    verify(verifier, token())


@pytest.mark.parametrize("body", [b"[]", b'["k1"]', b'"k1"', b"null", b"5"])
@pytest.mark.parametrize("at_first", [True, False])
def test_json_that_is_no_object_is_an_answer_without_keys(
    verifier: Verifier, google: Google, clock: Clock, body: bytes, at_first: bool
) -> None:
    if at_first:
        google.body = body
        with pytest.raises(PublishFailed):
            verify(verifier, token())
        return
    verify(verifier, token())
    google.body = body
    clock.now += PAUSE
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token(header={"kid": "unknown"}))
    verify(verifier, token())


@pytest.mark.parametrize("rubbish", ["rubbish", "", 5, None, ["x"], {}])
def test_a_certificate_that_is_none_refuses(verifier: Verifier, google: Google, rubbish: object) -> None:
    google.body = json.dumps({"k1": rubbish}).encode()
    with pytest.raises(AuthenticationFailed):
        verify(verifier, token())


def test_requests_that_waited_for_a_failing_download_share_its_failure(
    verifier: Verifier, google: Google, clock: Clock
) -> None:
    google.status = 500

    def takes_long() -> None:
        clock.now += push_auth.TIMEOUT

    google.before_answer = takes_long
    header = {b"authorization": b"Bearer " + token()}

    async def scenario() -> list[BaseException | None]:
        return await asyncio.gather(*(verifier.verify(header) for _ in range(5)), return_exceptions=True)

    assert [type(result) for result in asyncio.run(scenario())] == [PublishFailed] * 5
    assert google.requests == 1


HANDLERS = """
from flowhook import on
from flowhook.pubsub import push_auth

push_auth.CERTIFICATES = {url!r}

@on("packets.updated")
def grüße(event):
    print("handled", event.id, flush=True)
"""
EVENT = samples.load("packets.updated")
PATH = "/mine.gr%C3%BC%C3%9Fe"


@contextmanager
def consumer(tmp_path: Path, google: Google, **settings: str) -> Iterator[Receiver]:
    source = project(tmp_path, mine=HANDLERS.format(url=google.url))
    with receiver(tmp_path, source, target="consume", WEBHOOK_SECRET="", **settings) as started:
        yield started


def pushed(started: Receiver, *headers: bytes) -> int:
    body = json.dumps({"message": {"data": base64.b64encode(EVENT).decode()}})
    sent = [(b"content-type", b"application/json"), *((b"authorization", header) for header in headers)]
    return started.client.post(PATH, content=body, headers=sent).status_code


def test_consume_takes_pushes_with_our_token_alone(tmp_path: Path, google: Google) -> None:
    with consumer(tmp_path, google, PUSH_AUDIENCE=AUDIENCE, PUSH_SERVICE_ACCOUNT=ACCOUNT) as started:
        assert pushed(started) == 401
        assert pushed(started, b"Bearer rubbish") == 401
        assert pushed(started, b"Bearer " + token(claims(aud="another"))) == 401
        assert pushed(started, b"Bearer " + token(header={"kid": "k1"}, key="stranger")) == 401
        assert started.client.post("/nobody.there").status_code == 401
        assert "handled" not in started.output()
        good = token()
        assert pushed(started, b"Bearer " + good) == 204
        assert started.output().count(f"handled {hashlib.sha256(EVENT).hexdigest()}") == 1
        assert good.decode() not in started.output()
        assert google.requests == 1


def test_consume_without_an_audience_leaves_the_token_to_iam(tmp_path: Path, google: Google) -> None:
    with consumer(tmp_path, google) as started:
        assert pushed(started) == 204
        assert started.output().count(f"handled {hashlib.sha256(EVENT).hexdigest()}") == 1
        assert google.requests == 0


def test_consume_is_a_503_where_the_keys_can_not_be_had(tmp_path: Path, google: Google) -> None:
    google.status = 500
    with consumer(tmp_path, google, PUSH_AUDIENCE=AUDIENCE, PUSH_SERVICE_ACCOUNT=ACCOUNT) as started:
        assert pushed(started, b"Bearer " + token()) == 503
        assert "handled" not in started.output()


def test_threads_that_others_have_filled_keep_nobody_from_the_keys(verifier: Verifier) -> None:
    async def scenario() -> None:
        released = threading.Event()
        loop = asyncio.get_running_loop()
        for _ in range(64):
            loop.run_in_executor(None, released.wait, 20)
        await verifier.verify({b"authorization": b"Bearer " + token()})
        assert not released.is_set()
        released.set()

    began = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - began < 10


def test_a_download_that_hangs_is_waited_for_once(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_auth, "PATIENCE", 0.3)
    release = threading.Event()
    google.before_answer = lambda: release.wait(20)
    verifier = Verifier(AUDIENCE, ACCOUNT)

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(30):
            with pytest.raises(PublishFailed) as problem:
                await verifier.verify({b"authorization": b"Bearer " + token()})
            # Anybody can cause this answer, so its lines are bounded as those of a 401.
            assert problem.value.unproven
        release.set()
        return loop.time() - began

    assert 0.3 <= asyncio.run(scenario()) < 3
    assert google.requests == 1
