"""A client of a running emulator, for the command line and for the tests of receivers."""

import time
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx2

from flowhook import samples

# Seconds: to wait for an answer of the emulator, for a delivery to finish, and between two checks of that.
ANSWER = 30.0
PATIENCE = 30.0
BREATH = 0.02


class EmulatorError(Exception):
    """The emulator could not do what was asked; the message says why."""


class NotFinished(EmulatorError):  # noqa: N818 - it says how things are
    """Deliveries are still pending."""


@dataclass(frozen=True)
class Delivery:
    """The result of a delivery. `status` is the last answer's, or 0 if none came; then `error` says why."""

    id: int
    type: str
    entity: str
    state: str
    status: int
    attempts: int
    milliseconds: float
    error: str
    answer: str = field(repr=False)
    """The body of the last answer."""
    body: str = field(repr=False)
    """What was sent."""


class Emulator:
    """A client of the emulator at `url`. Every method raises EmulatorError if its request fails."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(base_url=self.url, timeout=ANSWER, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def state(self) -> dict[str, Any]:
        """The emulator's whole state, as `GET /api/state` returns it."""
        return self._ask("GET", "/api/state")

    def connect(
        self,
        url: str,
        secret: str | None,
        *,
        auth: str = "bearer",
        events: Sequence[str] = ("*",),
        paused: bool = False,
    ) -> dict[str, Any]:
        """Send the events that these patterns select to `url`; an integration that has this URL is changed.

        Raises ValueError for a wrong pattern.
        """
        settings = {"url": url, "secret": secret, "auth": auth, "events": samples.selected(events)}
        settings["status"] = "paused" if paused else "active"
        if known := self._integration(url):
            return self._ask("PUT", f"/api/integrations/{known}", settings)
        return self._ask("POST", "/api/integrations", settings)

    def disconnect(self, url: str) -> None:
        """Remove the integration that sends to `url`; connecting it again brings it back."""
        known = self._integration(url)
        if not known:
            raise EmulatorError(f"no integration sends to {url}")
        self._ask("DELETE", f"/api/integrations/{known}", {})

    def raw(self, integration: str) -> dict[str, Any]:
        """The Form RAW Response of an integration, by its id."""
        return self._ask("GET", f"/api/integrations/{integration}/raw")

    def propose(self, event_type: str) -> dict[str, Any]:
        """An event of this type that could happen next; nothing is changed or sent."""
        return self._ask("GET", f"/api/events/{event_type}")

    def send(
        self,
        event_type: str | None = None,
        *,
        body: bytes | None = None,
        manner: str = "",
        wait: bool = True,
        **overlay: Mapping[str, Any],
    ) -> list[Delivery]:
        """Let an event happen, or send a body unchanged; return its deliveries, finished ones with `wait`.

        The keyword arguments `properties`, `became` (property: old and new value) and `fields` change the
        event, as `flowhook.samples.overlay` describes.
        """
        text = None if body is None else b64encode(body).decode()
        wish = {"type": event_type, "body": text, "base64": body is not None, "manner": manner, **overlay}
        return self._told(self._ask("POST", "/api/deliveries", wish), wait=wait)

    def send_all(self, *, manner: str = "", wait: bool = True) -> list[Delivery]:
        """Send one event of every ticked type; with the manner `stale`, of the ticked updates only."""
        return self._told(self._ask("POST", "/api/deliveries/all", {"manner": manner}), wait=wait)

    def again(self, delivery: int, *, wait: bool = True) -> list[Delivery]:
        """Send the body of a delivery once more."""
        return self._told(self._ask("POST", f"/api/deliveries/{delivery}/again", {}), wait=wait)

    def stream(
        self, count: int | None, rate: float, events: Collection[str] = (), name: str = "stream"
    ) -> None:
        """Start a stream of `count` generated events (None: without end), `rate` of them a second."""
        wish = {"count": count, "rate": rate, "types": list(events)}
        self._ask("PUT", f"/api/streams/{name}", wish)

    def stop_stream(self, name: str = "stream") -> None:
        """Stop a stream."""
        self._ask("DELETE", f"/api/streams/{name}", {})

    def deliveries(self, limit: int = 200, state: str = "", **selection: str) -> list[dict[str, Any]]:
        """The newest deliveries; `type`, `entity` and `status` select as in `GET /api/deliveries`."""
        query = urlencode({"limit": limit, "state": state, **selection})
        found: list[dict[str, Any]] = self._ask("GET", f"/api/deliveries?{query}")["deliveries"]
        return found

    def clear(self) -> None:
        """Delete the finished deliveries."""
        self._ask("DELETE", "/api/deliveries", {})

    def delivery(self, identifier: int) -> Delivery:
        """The delivery with this id."""
        return _delivery(self._ask("GET", f"/api/deliveries/{identifier}"))

    def wait(self, identifiers: Sequence[int], patience: float = PATIENCE) -> list[Delivery]:
        """Return these deliveries once they are finished. Raises NotFinished after `patience` seconds."""
        deadline = time.monotonic() + patience
        found = []
        for identifier in identifiers:
            while (delivery := self.delivery(identifier)).state == "pending":
                if time.monotonic() > deadline:
                    raise NotFinished(f"delivery {identifier} is still pending: {_said(delivery)}")
                time.sleep(BREATH)
            found.append(delivery)
        return found

    def settle(self, patience: float = PATIENCE) -> dict[str, int]:
        """Wait until no stream runs and nothing is pending, and return how many deliveries each state has."""
        deadline = time.monotonic() + patience
        while True:
            state = self.state()
            counts: dict[str, int] = state["counts"]
            if not counts["pending"] and not any(stream["running"] for stream in state["streams"].values()):
                return counts
            if time.monotonic() > deadline:
                raise NotFinished(f"{counts['pending']} deliveries are still pending")
            time.sleep(5 * BREATH)

    def _integration(self, url: str) -> str | None:
        return next((i["id"] for i in self.state()["integrations"] if i["url"] == url), None)

    def _told(self, answer: Mapping[str, Any], *, wait: bool) -> list[Delivery]:
        identifiers: list[int] = answer["deliveries"]
        return self.wait(identifiers) if wait else [self.delivery(identifier) for identifier in identifiers]

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._client.request(
                method, path, json=document, headers={"content-type": "application/json"}
            )
            answer: dict[str, Any] = response.json()
        except httpx2.HTTPError as error:
            raise EmulatorError(f"no emulator answers at {self.url} ({type(error).__name__})") from None
        except ValueError:
            raise EmulatorError(f"what answers at {self.url} is no emulator") from None
        if response.is_error:
            raise EmulatorError(str(answer.get("detail", f"it answered {response.status_code}")))
        return answer


def _said(delivery: Delivery) -> str:
    return delivery.error or f"the last answer was {delivery.status}"


def _delivery(told: Mapping[str, Any]) -> Delivery:
    attempted = told["attempted"]
    answer = attempted[-1]["response_body"] if attempted else ""
    names = ("id", "type", "entity", "state", "status", "attempts", "milliseconds", "error", "body")
    return Delivery(answer=answer, **{name: told[name] for name in names})
