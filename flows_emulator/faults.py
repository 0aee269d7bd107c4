"""The ways to send a delivery: correctly, or with a fault that a receiver must survive."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A way to send, called `manner` in the API. With `once` a failure is intended, so there is no retry."""

    name: str
    title: str
    meaning: str
    once: bool = False


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("", "As it should be", "Signed, whole, once."),
        Fault(
            "redelivery",
            "Redelivery",
            "The same body twice, the second time once the first has been answered.",
        ),
        Fault("stale", "Old state after a new one", "Two updates of one entity, the later one first."),
        Fault("wrong-secret", "Wrong secret", "Signed with another secret: expect 401.", once=True),
        Fault("truncated", "Truncated body", "Half of the body, whole as a request: expect 400.", once=True),
        Fault("slow", "Slow upload", "The body in small pieces, over five seconds."),
        Fault("cut", "Connection cut", "The connection is closed in the middle of the body.", once=True),
    )
}
