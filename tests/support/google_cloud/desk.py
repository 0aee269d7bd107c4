"""Where a person works: a project's folder, a terminal, and the commands, all in this process."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowhook.deploy import commands, declared
from flowhook.deploy.clock import Clock
from flowhook.deploy.surroundings import Row, Surroundings, Visit
from tests.support.google_cloud import flows
from tests.support.google_cloud.client import Gcloud, Session
from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.exchange import Killed, Request
from tests.support.google_cloud.faults import Moment
from tests.support.google_cloud.simulated import DOCTOR, DOCTOR_KEY, TABLE

PROJECT = "flows-demo-1"
LOG, CHAT = "log_events.log_event", "notify_chat.notify_chat"
HANDLERS: Mapping[str, Sequence[str]] = {LOG: ("*",), CHAT: ("packets.created",)}
SHOWN = re.compile(r"^    (\S+)$", re.MULTILINE)
EXAMINED_EVERY = 5.0


@dataclass(frozen=True)
class Ran:
    """What a command came to: its status, what it said, what it asked Google for, and how long it took."""

    status: int
    output: str
    requests: tuple[Request, ...]
    seconds: float

    @property
    def changes(self) -> list[str]:
        return [str(request) for request in self.requests if request.changes]


class Doctor:
    """Sends what flowhook's doctor sends, and looks at what comes of it in the simulation."""

    def __init__(self, plane: ControlPlane, tell: Callable[[str], None]) -> None:
        self._plane = plane
        self._tell = tell
        self._visits = 0

    def examine(self, visit: Visit) -> list[Row]:
        """Raises nothing: a visit that fails is a row."""
        self._visits += 1
        ends = self._plane.time.now + visit.patience
        event = self._event()
        while (
            status := flows.post(
                self._plane, event, visit.secret, f"{visit.place.region}/{visit.place.called('receive')}"
            )
        ) != 200:
            if self._plane.time.now >= ends:
                return [Row("a signed event is accepted", False, str(status))]
            self._plane.time.advance(EXAMINED_EVERY)
        wrong = flows.post(
            self._plane, event, b"a-wrong-secret", f"{visit.place.region}/{visit.place.called('receive')}"
        )
        arrived = self._arrives(visit.place.called("rejected"), event, ends)
        return [
            Row("a signed event is accepted", True, "200"),
            Row("a wrong secret is refused", wrong == 401, str(wrong)),
            Row("a handler ran, and could keep what it rejected", arrived, ""),
        ]

    def report(self, rows: Sequence[Row], url: str) -> None:
        """Only what is wrong."""
        for row in rows:
            if not row.ok:
                self._tell(f"WRONG {row.what}: {row.seen}")

    def _event(self) -> bytes:
        document = json.loads(flows.body(self._visits, "doctors", "created", self._plane.time.now))
        return json.dumps({**document, "entityKey": DOCTOR_KEY}).encode()

    def _arrives(self, topic: str, event: bytes, ends: float) -> bool:
        while self._plane.time.now < ends:
            kept = self._plane.pubsub.waiting(topic)
            if any(m.data == event and m.attributes.get("handler") == DOCTOR for m in kept):
                return True
            self._plane.time.advance(EXAMINED_EVERY)
        return False


class Desk:
    """One checkout, one person, one project of Google's."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, plane: ControlPlane | None = None) -> None:
        self.plane = plane or ControlPlane(PROJECT)
        self.folder = folder
        self.gcloud = Gcloud(self.plane)
        self.flows = flows.Flows(self.plane)
        self.terminal = True
        # Seconds by which the clock of this machine is late.
        self.slow = 0.0
        self.answers: list[bool | None] = []
        # Rewrites a line of the terminal, where a test wants to see it.
        self.bar: Callable[[str], None] | None = None
        # What else hears what a command says.
        self.told: Callable[[str], None] = lambda text: None
        # When the person presses Ctrl-C, in the fake's time.
        self.leaves_at = float("inf")
        self._told: list[str] = []
        folder.mkdir(exist_ok=True)
        (folder / "requirements.txt").write_text("functions-framework==3.10.2\n")
        (folder / ".gcloudignore").write_text("*\n!.\n!/main.py\n!/requirements.txt\n")
        self.handlers(HANDLERS)
        patch.chdir(folder)
        patch.delenv("CLOUDSDK_CORE_PROJECT", raising=False)

    def handlers(self, table: Mapping[str, Sequence[str]], **more: Mapping[str, Any]) -> None:
        """Have these handlers, by name, with their patterns; `more` declares more of one (dots are __)."""
        rows = [
            {"name": name, "patterns": list(patterns), **more.get(name.replace(".", "__"), {})}
            for name, patterns in table.items()
        ]
        (self.folder / TABLE).write_text(json.dumps(rows))

    def environment(self, text: str) -> None:
        """Write .env.deploy."""
        (self.folder / ".env.deploy").write_text(text)

    def run(self, *words: str) -> Ran:
        """Type a command."""
        before, started = len(self.plane.log), self.plane.time.now
        self._told = []
        status = commands.main([*words], self._surroundings())
        return self._ran(status, before, started)

    def killed(self, number: int, moment: Moment, *words: str) -> bool:
        """Type a command, whose process is killed at a change; False if it has not so many."""
        self.plane.kill_at(number, moment)
        with suppress(Killed):
            self.run(*words)
        return self.plane.revive()

    @property
    def shown(self) -> str:
        """The secret that was shown last; empty if none was."""
        found = SHOWN.findall("\n".join(self._told))
        return found[-1] if found else ""

    @property
    def accepted(self) -> list[bytes]:
        """What the newest version of the secret holds."""
        return self.plane.secrets.found["flowhook-secret"].versions[-1].payload.split()

    def _ran(self, status: int, before: int, started: float) -> Ran:
        requests = tuple(self.plane.log[before:])
        return Ran(status, "\n".join(self._told), requests, self.plane.time.now - started)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            folder=self.folder,
            doctor=Doctor(self.plane, self._tell),
            login=lambda: Session(self.plane),
            gcloud=self.gcloud,
            clock=Clock(lambda: self.plane.time.now - self.slow, self._sleep),
            declared=lambda where: declared.read(json.loads((where / TABLE).read_text())),
            check_source=lambda where, environment: None,
            check_tests=lambda where: None,
            tell=self._tell,
            show=self._tell,
            ask=lambda question: self.answers.pop(0) if self.answers else None,
            on_a_terminal=lambda: self.terminal,
            bar=self.bar,
        )

    def _sleep(self, seconds: float) -> None:
        if self.plane.time.now >= self.leaves_at:
            raise KeyboardInterrupt
        self.plane.time.advance(seconds)

    def _tell(self, text: str) -> None:
        self._told.append(text)
        self.told(text)
        if found := SHOWN.findall(text):
            self.flows.secret = found[-1].encode()
