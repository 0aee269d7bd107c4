"""Calls Google's APIs as JSON over HTTP.

Requests carry the user's credentials, are retried after the temporary errors in `reasons`, and can be made a
few at a time.
"""

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
# Shows a line about the progress to the user.
Tell = Callable[[str], None]
T = TypeVar("T")

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# The most requests at a time: well below any quota, and enough to hide the time that each takes.
AT_ONCE = 8
# The longest wait for a response, in seconds.
TIMEOUT = 60
# Seconds for which a request is retried when no row of `reasons` explains the failure.
SHORT_PATIENCE = 60.0
# Seconds for which a token of gcloud is not asked for again.
FRESH = 10.0
# Variables that name a file of certificate authorities, as gcloud and other clients read them; the first that
# is set counts.
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE")
# The only API that the Pub/Sub emulator has.
PUBSUB = "https://pubsub.googleapis.com/"
LOGIN = "are you logged in (gcloud auth login)?"


class GcloudLogin(Credentials):
    """The access token of gcloud's login. google-auth refreshes it when Google answers 401."""

    def __init__(self, gcloud: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gcloud = gcloud
        self._asking = threading.Lock()
        self._asked_at = -FRESH

    def refresh(self, _request: object) -> None:
        """Ask gcloud for a token; it renews one that is about to expire. Raises DeployError."""
        with self._asking:
            if time.monotonic() - self._asked_at < FRESH:
                # Another thread, whose token had expired as well, has just asked.
                return
            command = [self._gcloud, "auth", "print-access-token", "--quiet"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
            if done.returncode or not done.stdout.strip():
                raise DeployError(f"gcloud has no token; {LOGIN}\n{done.stderr.strip()}")
            self.token = done.stdout.strip()
            self._asked_at = time.monotonic()


class Emulated(requests.Session):
    """A session that sends requests for Pub/Sub to the emulator at `host` (HOST:PORT), unauthenticated."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host
        self.trust_env = False

    def request(self, method: Any, url: Any, *given: Any, **more: Any) -> requests.Response:
        """Send a request to the emulator. Raises DeployError where it is for another API than Pub/Sub."""
        if not str(url).startswith(PUBSUB):
            raise DeployError(f"the Pub/Sub emulator can't answer {method} {url}")
        return super().request(method, str(url).replace(PUBSUB, f"http://{self._host}/", 1), *given, **more)


def emulator() -> Emulated:
    """Return a session for the emulator that PUBSUB_EMULATOR_HOST names."""
    return Emulated(os.environ["PUBSUB_EMULATOR_HOST"])


def login() -> AuthorizedSession:
    """Return a session that authenticates as gcloud's login, or without gcloud by default credentials.

    It uses the proxy in HTTPS_PROXY, and the certificate authorities that one of AUTHORITIES names. Raises
    DeployError where there are no credentials.
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
    """Sends requests to Google's APIs; a request's quota counts for the project `billed_to`, if it is given.

    Its methods raise Refusal where Google answers with an error, and Unanswered where no answer arrives.
    """

    def __init__(self, session: requests.Session, clock: Clock, tell: Tell, billed_to: str = "") -> None:
        self._session = session
        self.clock = clock
        self.tell = tell
        self._headers = {"X-Goog-User-Project": billed_to} if billed_to else {}
        self._told: set[str] = set()

    def billed_to(self, project: str) -> "Api":
        """Return an Api that counts quota for `project`; for none, where that is empty.

        Without a project, Google counts quota for a project that all users of gcloud share, which only works
        sometimes. Before Service Usage is enabled in the user's project, there is no other way.
        """
        return Api(self._session, self.clock, self.tell, project)

    def get(self, url: str, **params: Any) -> Document:
        """Return the JSON object at a URL; `params` become the query."""
        return self.request("GET", url, **params)

    def find(self, url: str, **params: Any) -> Document | None:
        """Return the JSON object at a URL; None where Google answers 404."""
        try:
            return self.get(url, **params)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def pages(
        self, url: str, key: str, params: Mapping[str, str] | None = None, tolerant: bool = False
    ) -> Iterator[Document]:
        """Yield the items of all pages of a list, which are under `key` in each page.

        Raises DeployError where Google couldn't reach a region: the resources there would be taken for
        missing. With `tolerant` the list may be incomplete instead.
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
        """Create a resource once, and return it.

        Where the answer is lost, or says that the resource exists, the result is what `find` returns.
        """
        try:
            return self.request(method, url, body, before_again=find, **params)
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            return self._wait_until_found(find, refusal)

    def _wait_until_found(self, find: Callable[[], Document | None], refusal: Refusal) -> Document:
        """Return a resource that exists, although Google may not find it at once.

        Raises `refusal` where it isn't found for PATIENCE seconds.
        """
        pauses = self.clock.pauses(PATIENCE)
        while (found := find()) is None:
            if next(pauses, None) is None:
                raise refusal
        return found

    def remove(self, url: str, **params: Any) -> Document:
        """Delete the resource at a URL and return the answer; it is empty where there is no such resource."""
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
        """Send a request and return the JSON object of the answer. Retries after temporary errors.

        `before_again` is called before a retry where the request may have taken effect. What it returns,
        unless that is None, is the result, and nothing is sent again.
        """
        started, pauses = self.clock.now(), self.clock.pauses(PATIENCE)
        while True:
            try:
                return self._ask(method, url, body, params)
            except (Refusal, Unanswered) as problem:
                if not _is_temporary(problem, self.clock.now() - started):
                    raise
                self._tell_waiting(problem.waits_for)
                if next(pauses, None) is None:
                    raise
                if not isinstance(problem, Refusal) or problem.status >= 500:
                    found = before_again()
                    if found is not None:
                        return found

    def finished(self, base: str, operation: Document) -> Document:
        """Wait until a long-running operation is done, and return its response.

        `base` is the API's URL with its version. Raises Refusal where the operation failed, and DeployError
        where it is not done after twice PATIENCE.
        """
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
        """Make independent calls, AT_ONCE at a time, and return their results in order.

        All calls are made, also after a failure; then the exception of the first one that failed is raised.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            started = [pool.submit(call) for call in calls]
        return [done.result() for done in started]

    def _tell_waiting(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.tell(f"Waiting for {what}, up to {PATIENCE / 60:.0f} minutes.")

    def _ask(self, method: str, url: str, body: Document | None, params: dict[str, Any]) -> Document:
        """Send a request once. Raises Refusal or Unanswered."""
        try:
            response = self._session.request(
                method, url, json=body, params=params, headers=self._headers, timeout=TIMEOUT
            )
        except (requests.RequestException, GoogleAuthError) as error:
            raise Unanswered(f"{method} {url} was not answered: {error}") from None
        return _read(f"{method} {url}", response)


def _is_temporary(problem: Refusal | Unanswered, passed: float) -> bool:
    """Return whether a request that has failed for `passed` seconds is to be sent again.

    A policy that somebody else has changed is no such case: its caller must read it again first.
    """
    if isinstance(problem, Unanswered) or problem.reason is None:
        return bool(problem.waits_for) and passed < SHORT_PATIENCE
    return problem.reason.name != "policy-changed"


def _read(request: str, response: requests.Response) -> Document:
    """Return the JSON object of a response; empty where it has none. Raises Refusal for an error."""
    try:
        document = response.json() if response.content else {}
    except ValueError:
        document = {}
    if response.ok:
        return document if isinstance(document, dict) else {}
    error = document.get("error") if isinstance(document, dict) else None
    raise Refusal(request, response.status_code, error if isinstance(error, dict) else {})
