"""Long-running operations: what was asked for happens a while later, and whoever looks learns how it went."""

import itertools
from collections.abc import Callable

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes
from tests.support.google_cloud.timeline import Timeline

Finish = Callable[[], Document]


class Operations:
    """Those of one service, at `HOST/VERSION/…/operations/ID`."""

    def __init__(self, time: Timeline, host: str, version: str, response_type: str) -> None:
        self._time = time
        self._host = host
        self._version = version
        self._type = f"type.googleapis.com/{response_type}"
        self._found: dict[str, Document] = {}
        self._numbers = itertools.count(1)

    def routes(self, routes: Routes, parent: str = "projects/*/locations/*/") -> None:
        routes.add("GET", f"{self._host}/{self._version}/{parent}operations/*", self._get)

    def start(
        self, parent: str, seconds: float, finish: Finish, metadata: Document | None = None
    ) -> Document:
        """Begin one. `finish` runs at its end: its response, or the Refusal that it ends with."""
        name = f"{parent}operations/op-{next(self._numbers)}"
        self._found[name] = {"name": name, **({"metadata": metadata} if metadata else {})}
        started = dict(self._found[name])
        self._time.after(seconds, lambda: self._finish(name, finish))
        return started

    def _finish(self, name: str, finish: Finish) -> None:
        try:
            result: Document = {"response": {"@type": self._type, **finish()}}
        except Refusal as refusal:
            result = {"error": refusal.operation_error}
        self._found[name] = {**self._found[name], "done": True, **result}

    def _get(self, request: Request, *_: str) -> Document:
        name = request.path.removeprefix(f"/{self._version}/")
        if name not in self._found:
            raise Refusal(404, f"Operation {name} was not found.")
        return self._found[name]
