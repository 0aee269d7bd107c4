"""How a delivery is sent: as it should be, or in one of the ways that a receiver must survive."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Manner:
    """A way to send; `once` tells that its failure is meant, so that nothing is tried again."""

    name: str
    title: str
    meaning: str
    once: bool = False


MANNERS: Mapping[str, Manner] = {
    manner.name: manner
    for manner in (
        Manner("", "As it should be", "Signed, whole, once."),
        Manner(
            "redelivery",
            "Redelivery",
            "The same body twice, the second time once the first has been answered.",
        ),
        Manner("stale", "Old state after a new one", "Two updates of one entity, the later one first."),
        Manner("wrong-secret", "Wrong secret", "Signed with another secret: expect 401.", once=True),
        Manner("truncated", "Truncated body", "Half of the body, whole as a request: expect 400.", once=True),
        Manner("slow", "Slow upload", "The body in small pieces, over five seconds."),
        Manner("cut", "Connection cut", "The connection is closed in the middle of the body.", once=True),
    )
}
