"""What the parts of the fake share: a request, a refusal, and a table of routes."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowhook.deploy.reasons import CATALOGUE, ERROR_INFO

Document = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request as it came, through the proxy or in this process."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Document:
        """The body. Raises Refusal where it is no JSON object, as Google does."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            raise Refusal(400, "Invalid JSON payload received.") from None
        if not isinstance(found, dict):
            raise Refusal(400, "Invalid JSON payload received. It is no object.")
        return found

    @property
    def changes(self) -> bool:
        """Whether it asks for a change; some reads are POST by their nature."""
        reads = (":getIamPolicy", ":testIamPermissions", ":pull", ":generateUploadUrl", "/entries:list")
        return self.method != "GET" and not self.path.endswith(reads)

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


class BrokenConnection(Exception):  # noqa: N818 - what it is: no answer comes
    """The connection ends before the answer."""


class Killed(BaseException):
    """The process that asked is gone: nothing that it asks for later arrives."""


STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Refusal(Exception):  # noqa: N818 - what it is, not what went wrong
    """An answer of 4xx or 5xx, in the form that Google's services give."""

    def __init__(self, status: int, message: str, name: str = "", *details: Document) -> None:
        super().__init__(message)
        self.status = status
        error = {"code": status, "message": message, "status": name or STATUSES.get(status, "UNKNOWN")}
        self.document = {"error": {**error, **({"details": list(details)} if details else {})}}

    @property
    def operation_error(self) -> Document:
        """The same as an operation tells it."""
        codes: dict[str, int] = {
            "INVALID_ARGUMENT": 3,
            "NOT_FOUND": 5,
            "PERMISSION_DENIED": 7,
            "FAILED_PRECONDITION": 9,
        }
        error: Any = self.document["error"]
        return {"code": codes.get(error["status"], 13), "message": error["message"]}


def refusal_for(name: str, **values: str) -> Refusal:
    """The answer that a row of the product's catalogue describes: its wording has one source."""
    (row,) = (row for row in CATALOGUE if row.name == name)
    metadata = {key: value for key, value in values.items() if key == "service"}
    info = {"@type": ERROR_INFO, "reason": row.reason, "domain": "googleapis.com", "metadata": metadata}
    return Refusal(row.status, row.text(**values), row.code, *([info] if row.reason else []))


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


def last(name: str) -> str:
    """The last part of a full name."""
    return name.rpartition("/")[2]


def camel(name: str) -> str:
    """A field's name as JSON has it; masks may have it either way."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def patched(present: Document, given: Document, mask: str) -> Document:
    """`present` with the fields of a mask as `given` has them, removed where it has none."""
    changed: Document = json.loads(json.dumps(present))
    for path in filter(None, mask.split(",")):
        *parents, field_name = [camel(part) for part in path.strip().split(".")]
        target, source = changed, given
        for part in parents:
            target, source = target.setdefault(part, {}), source.get(part, {})
        if field_name in source:
            target[field_name] = source[field_name]
        else:
            target.pop(field_name, None)
    return changed
