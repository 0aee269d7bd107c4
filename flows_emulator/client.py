"""An emulator that runs, from Python: what the command line and the tests of receivers do with it."""

import time
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx2

from flowhook import samples

# Seconds: for an answer of the emulator's own, and for a delivery to be finished.
ANSWER = 30.0
PATIENCE = 30.0
BREATH = 0.02


class EmulatorError(Exception):
    """The emulator did not do it; says why."""


class NotFinished(EmulatorError):  # noqa: N818 - it says how things are
    """Deliveries are still pending."""


@dataclass(frozen=True)
class Delivery:
    """What became of a delivery. `status` is the last answer's, 0 where there was none; then see `error`."""

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
    """Speaks to the emulator at `url`. Every method raises EmulatorError where it can't be done."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(base_url=self.url, timeout=ANSWER, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def state(self) -> dict[str, Any]:
        """Everything at a glance, as `GET /api/state` tells it."""
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
        """Have the events that these patterns select sent to `url`; what is there for it already is changed.

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
        """An event that could happen now and has not."""
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
        """Let an event happen, or send a body as it is; what became of it, once that is certain.

        The event may be told more exactly by `properties`, by `became` (property: old and new value) and by
        `fields` of its own, as `flowhook.samples.overlay` says.
        """
        text = None if body is None else b64encode(body).decode()
        wish = {"type": event_type, "body": text, "base64": body is not None, "manner": manner, **overlay}
        return self._told(self._ask("POST", "/api/deliveries", wish), wait=wait)

    def send_all(self, *, manner: str = "", wait: bool = True) -> list[Delivery]:
        """One event of every type that is ticked; with the manner `stale`, of every update."""
        return self._told(self._ask("POST", "/api/deliveries/all", {"manner": manner}), wait=wait)

    def again(self, delivery: int, *, wait: bool = True) -> list[Delivery]:
        """The body of a delivery once more."""
        return self._told(self._ask("POST", f"/api/deliveries/{delivery}/again", {}), wait=wait)

    def stream(
        self, count: int | None, rate: float, events: Collection[str] = (), name: str = "stream"
    ) -> None:
        """Let events happen by themselves."""
        wish = {"count": count, "rate": rate, "types": list(events)}
        self._ask("PUT", f"/api/streams/{name}", wish)

    def stop_stream(self, name: str = "stream") -> None:
        """Stop that."""
        self._ask("DELETE", f"/api/streams/{name}", {})

    def deliveries(self, limit: int = 200, state: str = "", **selection: str) -> list[dict[str, Any]]:
        """The newest deliveries; `type`, `entity` and `status` select as in `GET /api/deliveries`."""
        query = urlencode({"limit": limit, "state": state, **selection})
        found: list[dict[str, Any]] = self._ask("GET", f"/api/deliveries?{query}")["deliveries"]
        return found

    def clear(self) -> None:
        """Forget the deliveries that are finished."""
        self._ask("DELETE", "/api/deliveries", {})

    def delivery(self, identifier: int) -> Delivery:
        """One of them."""
        return _delivery(self._ask("GET", f"/api/deliveries/{identifier}"))

    def wait(self, identifiers: Sequence[int], patience: float = PATIENCE) -> list[Delivery]:
        """The deliveries, once delivered or failed for good. Raises NotFinished after `patience` s."""
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
        """How many deliveries there are in each state, once no stream runs and none is pending."""
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
