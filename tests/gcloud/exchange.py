"""What the parts of the fake share: a request, a refusal, and a table of routes."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request as it came through the proxy."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Document:
        found: Document = json.loads(self.body or b"{}")
        return found

    @property
    def changes(self) -> bool:
        """Whether it asks for a change; some reads are POST by their nature."""
        reads = (":getIamPolicy", ":pull", ":acknowledge", ":generateUploadUrl")
        return self.method != "GET" and not self.path.endswith(reads)

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


STATUSES = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}


class Refusal(Exception):  # noqa: N818 - what it is, not what went wrong
    """An answer of 4xx, in the form that Google's services give."""

    def __init__(self, status: int, message: str, name: str = "", *details: Document) -> None:
        super().__init__(message)
        self.status = status
        error = {"code": status, "message": message, "status": name or STATUSES.get(status, "UNKNOWN")}
        self.document = {"error": {**error, **({"details": details} if details else {})}}


Answer = Callable[..., Document]


class Routes:
    """First match wins; the groups of the pattern are the function's arguments after the request."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Answer]] = []

    def add(self, method: str, pattern: str, answer: Answer) -> None:
        """`pattern` is `HOST/PATH`, in which `*` stands for a segment (up to a colon)."""
        expression = re.escape(pattern).replace(r"\*", "([^/:]+)")
        self._routes.append((method, re.compile(expression), answer))

    def find(self, request: Request) -> Callable[[], Document]:
        """Raises Refusal where nothing is there: 5xx would be tried again and again."""
        for method, pattern, answer in self._routes:
            found = pattern.fullmatch(request.host + request.path)
            if found and method == request.method:
                return lambda: answer(request, *found.groups())
        raise Refusal(404, f"The fake knows no {request}.")
