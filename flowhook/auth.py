"""Whether a request proves that its sender knows an accepted secret, and how to make one that does.

The platform's guide says that the secret authenticates requests, and not how it travels. So a `Form` names
one way, and `auto` tries them all on every header until one has succeeded. Everything is compared as bytes,
in constant time, over the raw body; a malformed proof is no proof, never an error.
"""

import base64
import binascii
import hmac
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import unquote_to_bytes, urlencode

from flowhook.errors import AuthenticationFailed
from flowhook.secret import Secrets

log = logging.getLogger(__name__)

ALGORITHMS = ("sha256", "sha1", "sha512")
SCHEMES = (b"bearer", b"token", b"secret")
# Standard Webhooks, "Verifying webhook authenticity": seconds that a timestamp may be off, either way.
TOLERANCE = 300
# What `auto` looks at in one request; nobody who knows the secret sends more.
MAX_HEADERS_TRIED = 100
# `sha256=`, `v1=`, `v1,`: what may stand before a signature.
SIGNATURE_PREFIX = re.compile(rb"[A-Za-z][\w-]{0,15}[=:,]")
URL_SAFE = bytes.maketrans(b"-_", b"+/")

Headers = Mapping[bytes, bytes]


@dataclass(slots=True)
class Signed:
    """The parts of a request in which a proof may be; header names are in lower case, as ASGI gives them."""

    headers: Headers
    body: bytes
    query: bytes = b""
    _digests: dict[tuple[bytes, str], bytes] = field(default_factory=dict, repr=False)

    def digest(self, secret: bytes, algorithm: str) -> bytes:
        """The HMAC of the body, computed once however many headers are compared with it."""
        key = secret, algorithm
        if key not in self._digests:
            self._digests[key] = hmac.digest(secret, self.body, algorithm)
        return self._digests[key]


@dataclass(frozen=True)
class Form:
    """One way for a secret to travel, as `WEBHOOK_AUTH` names it, e.g. `hmac-sha256:x-signature`."""

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Form":
        """Read a value of `WEBHOOK_AUTH`. Raises ValueError, saying what is allowed; never quotes `text`."""
        kind, colon, name = text.partition(":")
        kind = kind.strip().lower()
        if kind in NAMELESS or kind == "auto":
            if colon:
                raise ValueError(f"{kind} takes no name")
            return cls(kind)
        if kind not in NAMED:
            known = ("auto", *NAMELESS, *(f"{known}:NAME" for known in NAMED))
            raise ValueError(f"it is none of {', '.join(known)}")
        # A query parameter's name counts to the letter, a header's does not (RFC 9110, 5.1).
        name = name.strip() if kind == "query" else name.strip().lower()
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{kind}: needs the name of a {'parameter' if kind == 'query' else 'header'}")
        return cls(kind, name)

    def proves(self, request: Signed, secret: bytes) -> bool:
        """Whether `request` proves in this form that its sender knows `secret`; empty, it proves nothing."""
        check = NAMELESS.get(self.kind) or NAMED[self.kind]
        return bool(secret) and check(request, secret, self.name.encode())

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Authenticator:
    """Checks requests against the accepted secrets, in the one pinned form or, with `auto`, in any."""

    def __init__(self, form: Form, secrets: Secrets) -> None:
        self._form = form
        self._secrets = secrets
        self._found: Form | None = None

    async def authenticate(self, headers: Headers, query: bytes, body: bytes) -> None:
        """Return if the request is authentic.

        Raises AuthenticationFailed with the headers tried, NoSecret where no secret can be trusted now.
        """
        request = Signed(headers, body, query)
        known = await self._secrets.accepted()
        if self._proven(request, known):
            return
        newer = await self._secrets.renewed()
        if newer == known or not self._proven(request, newer):
            raise AuthenticationFailed(sorted(name.decode("latin-1") for name in headers))

    def _proven(self, request: Signed, secrets: tuple[bytes, ...]) -> bool:
        # The one that fitted last time first: a sender doesn't change its ways.
        if self._found and _proves(self._found, request, secrets):
            return True
        for form in self._forms(request):
            if _proves(form, request, secrets):
                self._remember(form)
                return True
        return False

    def _forms(self, request: Signed) -> Iterator[Form]:
        """The forms to try."""
        if self._form.kind != "auto":
            yield self._form
            return
        yield from map(Form, NAMELESS)
        for name in islice(request.headers, MAX_HEADERS_TRIED):
            for kind in NAMED:
                if kind != "query":
                    yield Form(kind, name.decode("latin-1"))

    def _remember(self, form: Form) -> None:
        if self._form.kind == "auto" and self._found is None:
            log.info("Requests are authentic by %s. WEBHOOK_AUTH=%s would accept that way alone.", form, form)
        self._found = form


def _proves(form: Form, request: Signed, secrets: tuple[bytes, ...]) -> bool:
    return any(form.proves(request, secret) for secret in secrets)


@dataclass(frozen=True)
class Proof:
    """What to add to a request so that it is authentic."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    query: bytes = b""


def sign(form: Form, secret: bytes, body: bytes, at: float | None = None) -> Proof:
    """The mirror of `authenticate`: a proof in `form`, of the moment `at` (seconds since the epoch; now).

    Raises ValueError for `auto`, which is no way to sign.
    """
    name = form.name.encode()
    match form.kind:
        case "bearer":
            return Proof({b"authorization": b"Bearer " + secret})
        case "basic":
            return Proof({b"authorization": b"Basic " + base64.b64encode(b"flowhook:" + secret)})
        case "header":
            return Proof({name: secret})
        case "query":
            return Proof(query=urlencode({name: secret}).encode())
        case "standard-webhooks":
            return Proof(_standard_webhooks_headers(secret, body, time.time() if at is None else at))
    algorithm = form.kind.removeprefix("hmac-")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{form} is not a way to sign")
    return Proof({name: f"{algorithm}={hmac.digest(secret, body, algorithm).hex()}".encode()})


def _standard_webhooks_headers(secret: bytes, body: bytes, at: float) -> dict[bytes, bytes]:
    identifier = b"msg_" + hmac.digest(secret, body, "sha256").hex()[:24].encode()
    timestamp = str(int(at)).encode()
    signature = _standard_webhooks_signature(_keys(secret)[0], identifier, timestamp, body)
    return {
        b"webhook-id": identifier,
        b"webhook-timestamp": timestamp,
        b"webhook-signature": b"v1," + signature,
    }


def _bearer(request: Signed, secret: bytes, _name: bytes) -> bool:
    scheme, token = _scheme(request.headers.get(b"authorization", b""))
    return scheme == b"bearer" and hmac.compare_digest(token, secret)


def _basic(request: Signed, secret: bytes, _name: bytes) -> bool:
    scheme, credentials = _scheme(request.headers.get(b"authorization", b""))
    return scheme == b"basic" and hmac.compare_digest(_password(credentials), secret)


def _header(request: Signed, secret: bytes, name: bytes) -> bool:
    """The secret alone, after a scheme's name, or as the password of `Basic`."""
    value = request.headers.get(name, b"").strip()
    if hmac.compare_digest(value, secret):
        return True
    scheme, rest = _scheme(value)
    told = _password(rest) if scheme == b"basic" else rest
    return scheme in (*SCHEMES, b"basic") and hmac.compare_digest(told, secret)


def _hmac(algorithm: str) -> "Check":
    size = hmac.new(b"", digestmod=algorithm).digest_size

    def check(request: Signed, secret: bytes, name: bytes) -> bool:
        """The signature in hex or base64 (either alphabet, padded or not), alone or after a prefix."""
        value = request.headers.get(name, b"").strip()
        prefix = SIGNATURE_PREFIX.match(value)
        candidates = [value, value[prefix.end() :].strip()] if prefix else [value]
        return any(_is_digest(told, request, secret) for told in candidates)

    def _is_digest(told: bytes, request: Signed, secret: bytes) -> bool:
        # The length is no secret, and tells without hashing the body that this is no such signature.
        if len(told) == 2 * size:
            return hmac.compare_digest(told.lower(), request.digest(secret, algorithm).hex().encode())
        told = told.rstrip(b"=").translate(URL_SAFE)
        if len(told) != (4 * size + 2) // 3:
            return False
        expected = base64.b64encode(request.digest(secret, algorithm)).rstrip(b"=")
        return hmac.compare_digest(told, expected)

    return check


def _standard_webhooks(request: Signed, secret: bytes, _name: bytes) -> bool:
    """The three headers of the Standard Webhooks specification, its tolerance included."""
    identifier, timestamp, signatures = (
        request.headers.get(name, b"") for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
    )
    if not identifier or not _is_recent(timestamp):
        return False
    expected = [
        _standard_webhooks_signature(key, identifier, timestamp, request.body) for key in _keys(secret)
    ]
    told = [
        signature
        for version, _, signature in (s.partition(b",") for s in signatures.split())
        if version == b"v1"
    ]
    # One header may hold several signatures while the sender rotates; more than a few are no rotation.
    return any(hmac.compare_digest(a, b) for a in told[:MAX_HEADERS_TRIED] for b in expected)


def _is_recent(timestamp: bytes) -> bool:
    plausible = timestamp.isdigit() and len(timestamp) <= 12
    return plausible and abs(time.time() - int(timestamp)) <= TOLERANCE


def _standard_webhooks_signature(key: bytes, identifier: bytes, timestamp: bytes, body: bytes) -> bytes:
    content = b"%b.%b.%b" % (identifier, timestamp, body)
    return base64.b64encode(hmac.digest(key, content, "sha256"))


def _keys(secret: bytes) -> tuple[bytes, ...]:
    """The HMAC keys that a secret may stand for.

    Standard Webhooks writes a key as `whsec_` and its base64. Senders with a secret that a person typed
    take its bytes as they are, or run it through the same decoder.
    """
    decoded = _decode(secret.removeprefix(b"whsec_"))
    if secret.startswith(b"whsec_") and decoded:
        return (decoded,)
    return (secret, decoded) if decoded else (secret,)


def _query(request: Signed, secret: bytes, name: bytes) -> bool:
    """The secret as the value of a parameter, form-encoded."""
    pairs = (pair.partition(b"=") for pair in request.query.replace(b"+", b" ").split(b"&"))
    values = (unquote_to_bytes(value) for told, _, value in pairs if unquote_to_bytes(told) == name)
    return any(hmac.compare_digest(value, secret) for value in values)


def _scheme(value: bytes) -> tuple[bytes, bytes]:
    """`Bearer abc` as (b"bearer", b"abc"); a scheme's case does not count (RFC 9110, 11.1)."""
    scheme, _, rest = value.strip().partition(b" ")
    return scheme.lower(), rest.strip()


def _password(credentials: bytes) -> bytes:
    """The password of Basic credentials (RFC 7617), whoever the user; empty if they are malformed."""
    return _decode(credentials).partition(b":")[2]


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


Check = Callable[[Signed, bytes, bytes], bool]

# First match wins; `auto` tries them in this order, all but `query` for every header.
NAMELESS: Mapping[str, Check] = {
    "standard-webhooks": _standard_webhooks,
    "bearer": _bearer,
    "basic": _basic,
}
NAMED: Mapping[str, Check] = {
    "header": _header,
    **{f"hmac-{algorithm}": _hmac(algorithm) for algorithm in ALGORITHMS},
    "query": _query,
}
