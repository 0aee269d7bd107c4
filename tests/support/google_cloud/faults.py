"""What can go wrong or be slow: each is as a project in a good hour would have it until a test says more."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Moment = Literal["before", "after"]


@dataclass
class Faults:
    """Seconds of lateness, things that fail, and what somebody else does meanwhile. They combine."""

    # Seconds.
    grants_late: float = 0.0
    accounts_unknown: float = 0.0
    apis_late: float = 0.0
    latest_stale: float = 0.0
    addresses_late: float = 0.0
    metrics_late: float = 60.0
    # Until a line of a log is received.
    logs_late: float = 1.0
    # Until a line that was received can be found.
    logs_hidden: float = 0.0
    # Metrics that Google doesn't measure for the time being, by type.
    unmeasured: set[str] = field(default_factory=set)
    traffic_late: float = 5.0
    # Functions whose creation ends with the state FAILED and no address, and how often.
    half_created: Counter[str] = field(default_factory=Counter)
    builds_fail: bool = False
    answers_fail: bool = False
    # The builds and operations that fail with a row of the catalogue before they succeed, by its name.
    not_yet: list[str] = field(default_factory=list)
    # Requests that contain the text are refused with the status: "METHOD host/path".
    refused: dict[str, int] = field(default_factory=dict)
    # How many of the next requests are answered 429.
    too_many: int = 0
    # How many of the next requests are answered 401, as when a token has run out.
    expired: int = 0
    # Every change is cut off once, before or after it took effect.
    cuts: Moment | None = None
    # The number of the change (from 0) at which the process that asks is killed.
    kill_at: tuple[int, Moment] | None = None
    page_size: int | None = None
    unreachable: set[str] = field(default_factory=set)
    # Somebody writes each policy between the first reading and the first writing of it.
    concurrent_writer: bool = False
    # Organization policies.
    domains_restricted: bool = False
    locations: set[str] = field(default_factory=set)
    redeployment_checks_invokers: bool = False

    @contextmanager
    def set(self, **values: object) -> Iterator[None]:
        """Have some of them for a while."""
        before = {name: getattr(self, name) for name in values}
        for name, value in values.items():
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)
