"""What anybody can send is looked at no further than a proof may reach: it is done for whoever asks."""

import asyncio
import base64
import os
from pathlib import Path

import pytest

from flowhook.auth import Authenticator
from flowhook.errors import AuthenticationFailed
from flowhook.pubsub import push_auth
from flowhook.schemes import (
    MAX_AROUND,
    MAX_QUERY,
    MAX_TRIED,
    Basic,
    Bearer,
    Candidate,
    Query,
    StandardWebhooks,
)
from flowhook.secret import Secrets
from tests.support.command_line import flowhook
from tests.support.receiver import SECRET
from tests.support.requests import reading

LONGEST = MAX_AROUND + 2 * len(SECRET)


def with_padding(length: int) -> bytes:
    """A query string of this many bytes with the secret at its end."""
    proof = b"&token=" + SECRET
    return b"a" * (length - len(proof)) + proof


@pytest.mark.parametrize(("length", "authentic"), [(MAX_QUERY, True), (MAX_QUERY + 1, False)])
def test_a_query_is_searched_up_to_a_length(length: int, authentic: bool) -> None:
    assert Query("token").verify(Candidate({}, b"", with_padding(length)), SECRET) is authentic


@pytest.mark.parametrize(("more", "authentic"), [(0, True), (1, False)])
def test_a_bearer_token_is_looked_at_up_to_a_length(more: int, authentic: bool) -> None:
    value = b"Bearer" + b" " * (LONGEST - len(b"Bearer") - len(SECRET) + more) + SECRET
    assert Bearer().verify(Candidate({b"authorization": value}, b""), SECRET) is authentic


@pytest.mark.parametrize(("name", "authentic"), [(b"flows", True), (b"f" * LONGEST, False)])
def test_credentials_are_decoded_up_to_a_length(name: bytes, authentic: bool) -> None:
    value = b"Basic " + base64.b64encode(name + b":" + SECRET)
    assert Basic().verify(Candidate({b"authorization": value}, b""), SECRET) is authentic


@pytest.mark.parametrize(("length", "authentic"), [(MAX_AROUND, True), (MAX_AROUND + 1, False)])
def test_a_message_id_is_hashed_up_to_a_length(length: int, authentic: bool) -> None:
    proof = StandardWebhooks().sign(SECRET, b"{}").headers
    identifier = b"m" * length
    signature = StandardWebhooks._signature(SECRET, identifier, proof[b"webhook-timestamp"], b"{}")
    headers = {**proof, b"webhook-id": identifier, b"webhook-signature": b"v1," + signature}
    assert StandardWebhooks().verify(Candidate(headers, b"{}"), SECRET) is authentic


def test_a_refusal_names_no_more_headers_than_are_tried() -> None:
    headers = {b"x-%d" % number: b"" for number in range(10 * MAX_TRIED)}
    with pytest.raises(AuthenticationFailed) as refusal:
        asyncio.run(Authenticator(None, Secrets(SECRET)).authenticate(headers, b"", reading(b"{}")))
    assert len(refusal.value.noted["headers_tried"]) == MAX_TRIED


def test_a_token_that_is_too_long_for_one_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.auth.jwt.decode_header", lambda _token: pytest.fail("it is parsed"))
    headers = {b"authorization": b"Bearer " + b"a" * (push_auth.MAX_TOKEN + 1)}
    with pytest.raises(AuthenticationFailed):
        asyncio.run(push_auth.Verifier("audience", "account").verify(headers))


def test_a_file_to_check_is_read_up_to_a_length(tmp_path: Path) -> None:
    path = tmp_path / "raw.json"
    path.touch()
    os.truncate(path, 1 << 40)
    assert "too large" in flowhook("check", str(path)).stderr
