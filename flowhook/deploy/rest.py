"""Google's APIs as JSON over HTTP: signed, retried where the catalogue says so, a few at a time."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import google.auth
import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter

from flowhook.deploy.clock import PATIENCE, Clock
from flowhook.deploy.errors import DeployError, Refusal, Unanswered

Document = dict[str, Any]
Tell = Callable[[str], None]
T = TypeVar("T")

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Requests at once: well below any quota, and enough to hide the way to Google.
AT_ONCE = 8
# Seconds: for one answer, and for what no row of the catalogue explains to be over.
TIMEOUT = 60
SHORT_PATIENCE = 60.0
# Seconds for which a token that gcloud has given is the newest that there is.
FRESH = 10.0
# Those that gcloud and other clients of this machine read, the first that is set.
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE")
PUBSUB = "https://pubsub.googleapis.com/"
LOGIN = "are you logged in (gcloud auth login)?"


class GcloudLogin(Credentials):
    """The token of gcloud's login, asked for again when Google no longer takes it."""

    def __init__(self, gcloud: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gcloud = gcloud
        self._asking = threading.Lock()
        self._asked_at = -FRESH

    def refresh(self, _request: object) -> None:
        """Ask gcloud, which renews a token that is about to end. Raises DeployError."""
        with self._asking:
            if time.monotonic() - self._asked_at < FRESH:
                # Another thread has just asked, for the same reason.
                return
            command = [self._gcloud, "auth", "print-access-token", "--quiet"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
            if done.returncode or not done.stdout.strip():
                raise DeployError(f"gcloud has no token; {LOGIN}\n{done.stderr.strip()}")
            self.token = done.stdout.strip()
            self._asked_at = time.monotonic()


class Emulated(requests.Session):
    """Reaches the Pub/Sub emulator at an address; raises DeployError for everything else."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host
        self.trust_env = False

    def request(self, method: Any, url: Any, *given: Any, **more: Any) -> requests.Response:
        """Ask the emulator."""
        if not str(url).startswith(PUBSUB):
            raise DeployError(f"the Pub/Sub emulator can't answer {method} {url}")
        return super().request(method, str(url).replace(PUBSUB, f"http://{self._host}/", 1), *given, **more)


def emulator() -> Emulated:
    """A session with the emulator of PUBSUB_EMULATOR_HOST."""
    return Emulated(os.environ["PUBSUB_EMULATOR_HOST"])


def login() -> AuthorizedSession:
    """A session that signs its requests: as gcloud's login, or without gcloud as the machine's own.

    It goes through the proxy that `HTTPS_PROXY` names and trusts the authorities of the usual variables.
    Raises DeployError where nobody is logged in.
    """
    session = AuthorizedSession(_credentials())
    session.mount("https://", HTTPAdapter(pool_maxsize=AT_ONCE))
    trusted = next((os.environ[name] for name in AUTHORITIES if os.environ.get(name)), None)
    if trusted:
        session.verify = trusted
    return session


def _credentials() -> Credentials:
    gcloud = shutil.which("gcloud")
    if gcloud:
        return GcloudLogin(gcloud)
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise DeployError(
            "gcloud is not installed (https://cloud.google.com/sdk/docs/install), "
            f"and there are no application-default credentials: {error}"
        ) from None
    return credentials


class Api:
    """What asks Google. `billed_to` is the project whose quota requests count for."""

    def __init__(self, session: requests.Session, clock: Clock, tell: Tell, billed_to: str = "") -> None:
        self._session = session
        self.clock = clock
        self.tell = tell
        self._headers = {"X-Goog-User-Project": billed_to} if billed_to else {}
        self._told: set[str] = set()

    def billed_to(self, project: str) -> "Api":
        """The same, with `project` paying.

        A login's shared quota project works only sometimes; but before Service Usage is enabled in a project,
        there is no other.
        """
        return Api(self._session, self.clock, self.tell, project)

    def get(self, url: str, **params: Any) -> Document:
        """Read. Raises Refusal or Unanswered, like all that follow."""
        return self.request("GET", url, **params)

    def find(self, url: str, **params: Any) -> Document | None:
        """Read what may not be there."""
        try:
            return self.get(url, **params)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def pages(
        self, url: str, key: str, params: Mapping[str, str] | None = None, tolerant: bool = False
    ) -> Iterator[Document]:
        """Every item of a list, whatever the number of its pages.

        Raises DeployError where a region can't be reached, unless that is tolerable: what is not listed must
        not be taken for missing.
        """
        token: str | None = None
        while token != "":
            page = self.get(url, **(params or {}), **({"pageToken": token} if token else {}))
            if page.get("unreachable") and not tolerant:
                raise DeployError(f"these can't be reached now: {', '.join(page['unreachable'])}; try later")
            yield from page.get(key, [])
            token = page.get("nextPageToken", "")

    def create(
        self, method: str, url: str, body: Document, find: Callable[[], Document | None], **params: Any
    ) -> Document:
        """Create once: where the answer is lost, or says that it exists, what `find` finds counts."""
        try:
            return self.request(method, url, body, before_again=find, **params)
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            return self._seen_at_last(find, refusal)

    def _seen_at_last(self, find: Callable[[], Document | None], refusal: Refusal) -> Document:
        """What is said to exist already, which those who read may see a while later only."""
        pauses = self.clock.pauses(PATIENCE)
        while (found := find()) is None:
            if next(pauses, None) is None:
                raise refusal
        return found

    def remove(self, url: str, **params: Any) -> Document:
        """Delete; what is gone already is as it should be."""
        try:
            return self.request("DELETE", url, **params)
        except Refusal as refusal:
            if refusal.status == 404:
                return {}
            raise

    def request(
        self,
        method: str,
        url: str,
        body: Document | None = None,
        before_again: Callable[[], Document | None] = lambda: None,
        **params: Any,
    ) -> Document:
        """Ask, again and again while the catalogue says that it will be answered soon.

        `before_again` looks, after an answer that was lost, whether all is done already.
        """
        started, pauses = self.clock.now(), self.clock.pauses(PATIENCE)
        while True:
            try:
                return self._ask(method, url, body, params)
            except (Refusal, Unanswered) as problem:
                if not _will_pass(problem, self.clock.now() - started):
                    raise
                self._tell_waiting(problem.waits_for)
                if next(pauses, None) is None:
                    raise
                if not isinstance(problem, Refusal) or problem.status >= 500:
                    found = before_again()
                    if found is not None:
                        return found

    def finished(self, base: str, operation: Document) -> Document:
        """Wait for a long-running operation and give its response. Raises Refusal where it failed."""
        pauses = self.clock.pauses(2 * PATIENCE)
        while not operation.get("done"):
            if next(pauses, None) is None:
                raise DeployError(f"{operation['name']} does not end")
            operation = self.get(f"{base}/{operation['name']}")
        if error := operation.get("error"):
            raise Refusal(operation["name"], 400, error)
        response: Document = operation.get("response", {})
        return response

    def together(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """Do independent things, a few at a time; what the first failure raised is raised at the end."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            started = [pool.submit(call) for call in calls]
        return [done.result() for done in started]

    def _tell_waiting(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.tell(f"Waiting for {what}, up to {PATIENCE / 60:.0f} minutes.")

    def _ask(self, method: str, url: str, body: Document | None, params: dict[str, Any]) -> Document:
        try:
            response = self._session.request(
                method, url, json=body, params=params, headers=self._headers, timeout=TIMEOUT
            )
        except (requests.RequestException, GoogleAuthError) as error:
            raise Unanswered(f"{method} {url} was not answered: {error}") from None
        return _read(f"{method} {url}", response)


def _will_pass(problem: Refusal | Unanswered, passed: float) -> bool:
    """Whether to ask again. A policy that others have changed must be read again first, by the caller."""
    if isinstance(problem, Unanswered) or problem.reason is None:
        return bool(problem.waits_for) and passed < SHORT_PATIENCE
    return problem.reason.name != "policy-changed"


def _read(request: str, response: requests.Response) -> Document:
    try:
        document = response.json() if response.content else {}
    except ValueError:
        document = {}
    if response.ok:
        return document if isinstance(document, dict) else {}
    error = document.get("error") if isinstance(document, dict) else None
    raise Refusal(request, response.status_code, error if isinstance(error, dict) else {})
