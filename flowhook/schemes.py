"""The authentication schemes: how a request proves that its sender knows a secret, and how to sign one.

Each class is a row of the table `SCHEMES`. It verifies and signs, so that the two can't drift apart.
Everything is compared as bytes, in constant time, over the raw body; a malformed proof is no proof, never an
error.
"""

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import unquote_to_bytes, urlencode

# What Standard Webhooks writes before the base64 of a key.
KEY_PREFIX = b"whsec_"
# What may stand before a secret in a header, in lower case.
AUTHORIZATION_SCHEMES = (b"bearer", b"token", b"secret")
# Standard Webhooks, "Verifying webhook authenticity": seconds that a timestamp may be off, either way.
TOLERANCE = 300
# The most signatures of a header, and headers of a request, that are tried: nobody who knows the secret sends
# more.
MAX_TRIED = 100
# Bytes that may stand around a secret or a signature in a header: a scheme's name, a prefix, white space.
MAX_AROUND = 1024
# The most bytes of a query string that is searched: what stands in front of a server seldom takes more.
MAX_QUERY = 16 * 1024
# `sha256=`, `v1=`, `v1,`: what may stand before a signature.
SIGNATURE_PREFIX = re.compile(rb"[A-Za-z][\w-]{0,15}[=:,]")
URL_SAFE = bytes.maketrans(b"-_", b"+/")
# RFC 9110, 5.6.2: what a header's name may consist of.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Headers = Mapping[bytes, bytes]


class Candidate:
    """A request that may be authentic; header names are in lower case, as ASGI gives them."""

    __slots__ = ("_digests", "body", "headers", "query")

    def __init__(self, headers: Headers, body: bytes, query: bytes = b"") -> None:
        self.headers = headers
        self.body = body
        self.query = query
        self._digests: dict[tuple[bytes, str], bytes] = {}

    def digest(self, secret: bytes, algorithm: str) -> bytes:
        """The HMAC of the body, computed once however many headers are compared with it."""
        key = secret, algorithm
        if key not in self._digests:
            self._digests[key] = hmac.digest(secret, self.body, algorithm)
        return self._digests[key]


@dataclass(frozen=True)
class Proof:
    """What to add to a request so that it is authentic."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    query: bytes = b""


@dataclass(frozen=True)
class Scheme:
    """One way to send or use a secret, written as in `WEBHOOK_AUTH`: `bearer`, `hmac-sha256:x-signature`."""

    name: str = ""

    kind: ClassVar[str]
    # What it looks like in a request, for a person who chooses.
    summary: ClassVar[str]
    # What `name` is the name of: a header or a parameter; empty for a scheme that takes no name.
    named: ClassVar[str] = ""
    # Whether `auto` tries it.
    in_auto: ClassVar[bool] = True
    # Whether it signs the body; the other schemes send the secret itself.
    needs_body: ClassVar[bool] = False

    def verify(self, request: Candidate, secret: bytes) -> bool:
        """Whether the request proves that its sender knows `secret`. An empty secret proves nothing."""
        return self._verify(request, secret) if secret else False

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:
        """A proof that `verify` accepts, made at `at` (seconds since the epoch; by default now)."""
        raise NotImplementedError

    def might_verify(self, headers: Headers) -> bool:  # noqa: ARG002 - for those that need the body
        """Whether these headers may hold a proof; False means that they certainly don't."""
        return True

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @classmethod
    def spelling(cls) -> str:
        """How `WEBHOOK_AUTH` names it, with NAME where it takes one."""
        return f"{cls.kind}:NAME" if cls.named else cls.kind


class StandardWebhooks(Scheme):
    """The three headers of https://www.standardwebhooks.com, with its tolerance."""

    kind = "standard-webhooks"
    summary = "the headers of Standard Webhooks"
    needs_body = True

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:
        """A signature of the body, a message id and the timestamp."""
        identifier = b"msg_" + hmac.digest(secret, body, "sha256").hex()[:24].encode()
        timestamp = str(int(time.time() if at is None else at)).encode()
        signature = self._signature(_keys(secret)[0], identifier, timestamp, body)
        return Proof(
            {
                b"webhook-id": identifier,
                b"webhook-timestamp": timestamp,
                b"webhook-signature": b"v1," + signature,
            }
        )

    def might_verify(self, headers: Headers) -> bool:
        """Whether an id, a recent timestamp and a signature are there."""
        timestamp = headers.get(b"webhook-timestamp", b"")
        return b"webhook-id" in headers and _is_recent(timestamp) and bool(self._told(headers))

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        headers = request.headers
        identifier, timestamp = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        if not 0 < len(identifier) <= MAX_AROUND or not _is_recent(timestamp):
            return False
        told = self._told(headers)
        if not told:
            return False
        expected = [self._signature(key, identifier, timestamp, request.body) for key in _keys(secret)]
        return any(hmac.compare_digest(a, b) for a in told for b in expected)

    @staticmethod
    def _told(headers: Headers) -> list[bytes]:
        # One header may hold several signatures while the sender rotates its key.
        value = headers.get(b"webhook-signature", b"")
        if len(value) > MAX_TRIED * MAX_AROUND:
            return []
        return [told[3:] for told in value.split(None, MAX_TRIED) if told.startswith(b"v1,")]

    @staticmethod
    def _signature(key: bytes, identifier: bytes, timestamp: bytes, body: bytes) -> bytes:
        # Not in one piece, which would copy the body.
        signature = hmac.new(key, b"%b.%b." % (identifier, timestamp), "sha256")
        signature.update(body)
        return base64.b64encode(signature.digest())


class Bearer(Scheme):
    """`Authorization: Bearer SECRET`."""

    kind = "bearer"
    summary = "Authorization: Bearer SECRET"

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:  # noqa: ARG002
        """The secret itself."""
        return Proof({b"authorization": b"Bearer " + secret})

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        scheme, token = _split(_value(request, b"authorization", secret))
        return scheme == b"bearer" and hmac.compare_digest(token, secret)


class Basic(Scheme):
    """`Authorization: Basic …` with the secret as the password and any user name (RFC 7617)."""

    kind = "basic"
    summary = "Authorization: Basic, as the password"

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:  # noqa: ARG002
        """The secret itself."""
        return Proof({b"authorization": b"Basic " + base64.b64encode(b"flowhook:" + secret)})

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        scheme, credentials = _split(_value(request, b"authorization", secret))
        return scheme == b"basic" and hmac.compare_digest(_password(credentials), secret)


class Header(Scheme):
    """A header: the secret alone, after `Bearer`, `Token` or `Secret`, or as the password of `Basic`."""

    kind = "header"
    summary = "a header that holds the secret"
    named = "header"

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:  # noqa: ARG002
        """The secret itself."""
        return Proof({self.name.encode(): secret})

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        value = _value(request, self.name.encode(), secret).strip()
        if hmac.compare_digest(value, secret):
            return True
        scheme, rest = _split(value)
        told = _password(rest) if scheme == b"basic" else rest
        return scheme in (*AUTHORIZATION_SCHEMES, b"basic") and hmac.compare_digest(told, secret)


class Hmac(Scheme):
    """A header with the HMAC of the body, in hex or base64 (either alphabet), alone or after a prefix."""

    named = "header"
    needs_body = True
    algorithm: ClassVar[str]
    # Bytes of a digest.
    size: ClassVar[int]

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:  # noqa: ARG002
        """The signature in hex after the algorithm's name, as GitHub writes it."""
        signature = hmac.digest(secret, body, self.algorithm).hex()
        return Proof({self.name.encode(): f"{self.algorithm}={signature}".encode()})

    def might_verify(self, headers: Headers) -> bool:
        """Whether the header has something of a signature's length."""
        return bool(self._told(headers))

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        return any(self._is_digest(told, request, secret) for told in self._told(request.headers))

    def _told(self, headers: Headers) -> list[bytes]:
        """The values of a signature's length, which is no secret: for others the body isn't hashed."""
        value = headers.get(self.name.encode(), b"")
        if len(value) > MAX_AROUND:
            return []
        value = value.strip()
        prefix = SIGNATURE_PREFIX.match(value)
        candidates = [value, value[prefix.end() :].strip()] if prefix else [value]
        in_hex, in_base64 = 2 * self.size, (4 * self.size + 2) // 3
        return [told for told in candidates if len(told) == in_hex or len(told.rstrip(b"=")) == in_base64]

    def _is_digest(self, told: bytes, request: Candidate, secret: bytes) -> bool:
        digest = request.digest(secret, self.algorithm)
        if len(told) == 2 * self.size:
            return hmac.compare_digest(told.lower(), digest.hex().encode())
        expected = base64.b64encode(digest).rstrip(b"=")
        return hmac.compare_digest(told.rstrip(b"=").translate(URL_SAFE), expected)


class HmacSha256(Hmac):
    """With SHA-256, what most senders use."""

    kind, algorithm, size = "hmac-sha256", "sha256", 32
    summary = "a header with the HMAC-SHA256 of the body"


class HmacSha1(Hmac):
    """With SHA-1: as an HMAC it is not broken, and old senders know no other."""

    kind, algorithm, size = "hmac-sha1", "sha1", 20
    summary = "a header with the HMAC-SHA1 of the body"


class HmacSha512(Hmac):
    """With SHA-512."""

    kind, algorithm, size = "hmac-sha512", "sha512", 64
    summary = "a header with the HMAC-SHA512 of the body"


class Query(Scheme):
    """The secret as a form-encoded query parameter. `auto` doesn't try it, because URLs end up in logs."""

    kind = "query"
    summary = "a query parameter"
    named = "parameter"
    in_auto = False

    def sign(self, secret: bytes, body: bytes, at: float | None = None) -> Proof:  # noqa: ARG002
        """The secret itself."""
        return Proof(query=urlencode({self.name: secret}).encode())

    def _verify(self, request: Candidate, secret: bytes) -> bool:
        # Anybody can send a long one, and it is split before it is known who did.
        if len(request.query) > MAX_QUERY:
            return False
        name = self.name.encode()
        pairs = (pair.partition(b"=") for pair in request.query.replace(b"+", b" ").split(b"&"))
        values = (unquote_to_bytes(value) for told, _, value in pairs if unquote_to_bytes(told) == name)
        return any(hmac.compare_digest(value, secret) for value in values)


# `auto` tries them in this order, those that take a header's name on every header. The first match wins.
SCHEMES: Mapping[str, type[Scheme]] = {
    scheme.kind: scheme
    for scheme in (StandardWebhooks, Bearer, Basic, Header, HmacSha256, HmacSha1, HmacSha512, Query)
}
AUTO = "auto"


def parse(text: str) -> Scheme | None:
    """Read a value of `WEBHOOK_AUTH`; None is `auto`, any scheme.

    Raises ValueError, saying what is allowed; it never quotes `text`, which may be the secret.
    """
    kind, colon, name = text.partition(":")
    kind = kind.strip().lower()
    if kind != AUTO and kind not in SCHEMES:
        known = (AUTO, *(scheme.spelling() for scheme in SCHEMES.values()))
        raise ValueError(f"it is none of {', '.join(known)}")
    named = SCHEMES[kind].named if kind != AUTO else ""
    if not named:
        if colon:
            raise ValueError(f"{kind} takes no name")
        return SCHEMES[kind]() if kind != AUTO else None
    # A query parameter's name is case-sensitive, a header's is not (RFC 9110, 5.1).
    name = name.strip().lower() if named == "header" else name.strip()
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{kind}: needs the name of a {named}")
    return SCHEMES[kind](name)


def _is_recent(timestamp: bytes) -> bool:
    plausible = timestamp.isdigit() and len(timestamp) <= 12
    return plausible and abs(time.time() - int(timestamp)) <= TOLERANCE


def _keys(secret: bytes) -> tuple[bytes, ...]:
    """The HMAC keys that a secret may stand for.

    Standard Webhooks writes a key as `whsec_` and its base64. Senders with a secret that a person typed use
    its bytes as they are, or decode it as base64 all the same.
    """
    decoded = _decode(secret.removeprefix(KEY_PREFIX))
    if secret.startswith(KEY_PREFIX) and decoded:
        return (decoded,)
    return (secret, decoded) if decoded else (secret,)


def _value(request: Candidate, name: bytes, secret: bytes) -> bytes:
    """A header's value; empty where it is too long for one that holds the secret, and may be megabytes."""
    value = request.headers.get(name, b"")
    # In base64 a secret is longer by a third.
    return value if len(value) <= MAX_AROUND + 2 * len(secret) else b""


def _split(value: bytes) -> tuple[bytes, bytes]:
    """`Bearer abc` as (b"bearer", b"abc"); the first word is case-insensitive (RFC 9110, 11.1)."""
    scheme, _, rest = value.strip().partition(b" ")
    return scheme.lower(), rest.strip()


def _password(credentials: bytes) -> bytes:
    """The password of Basic credentials (RFC 7617), for any user name; empty if they are malformed."""
    return _decode(credentials).partition(b":")[2]


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
