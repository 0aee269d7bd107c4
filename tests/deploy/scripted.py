"""Google, as a list of answers: for what a whole control plane would only hide."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from flowhook.deploy.clock import Clock
from flowhook.deploy.rest import Api

Answer = tuple[int, dict[str, Any]] | Exception
BROKEN = requests.ConnectionError("the connection broke")


def refusal(status: int, message: str, reason: str = "") -> Answer:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return status, {"error": {"code": status, "message": message, "details": details}}


@dataclass
class Scripted(requests.Session):
    """Answers in turn, and what was asked; `store` answers once the list is empty."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    headers_seen: list[Any] = field(default_factory=list)
    store: Callable[[str, str, Any], Answer] | None = None

    def request(self, method: str, url: str, **more: Any) -> requests.Response:  # type: ignore[override]
        self.asked.append((method, url, more.get("json")))
        self.headers_seen.append(more.get("headers"))
        if self.answers:
            answer = self.answers.pop(0)
        else:
            assert self.store, f"nothing more is expected, but {method} {url}"
            answer = self.store(method, url, more.get("json"))
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, document = answer
        response._content = json.dumps(document).encode()
        return response


class Time:
    """Passes as fast as somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class World:
    """An Api with its answers, its time and what it told."""

    session: Scripted
    time: Time
    told: list[str]
    api: Api


def world(*answers: Answer) -> World:
    session, time, told = Scripted([*answers]), Time(), list[str]()
    return World(session, time, told, Api(session, time.clock, told.append, "p-12345"))
