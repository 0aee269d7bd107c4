"""How many messages wait in a subscription, as Cloud Monitoring measures it.

The figures are approximate, and some minutes old.
"""

from dataclasses import dataclass

from flowhook.deploy import drain
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api, Document

UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"


@dataclass(frozen=True)
class Backlog:
    """The backlog of a subscription.

    `count` is about how many messages wait. `oldest` is when the oldest of them was published, in seconds
    since 1970. Each is None where Monitoring has no sample, and `oldest` also where no message waits.
    """

    count: int | None
    oldest: float | None


def measured(api: Api, place: Place, subscription: str) -> Backlog:
    """Return the backlog according to the latest samples. Raises Refusal or Unanswered."""
    counts = drain.samples(api, place, subscription, UNDELIVERED)
    ages = drain.samples(api, place, subscription)
    last_count = max(counts, key=lambda sample: sample.at, default=None)
    last_age = max(ages, key=lambda sample: sample.at, default=None)
    return Backlog(
        int(last_count.value) if last_count else None,
        last_age.oldest if last_age and last_age.value else None,
    )


def kept_until(subscription: Document, oldest: float) -> float:
    """Return when a subscription drops a message that was published at `oldest`.

    Both times are in seconds since 1970.
    """
    return oldest + float(subscription.get("messageRetentionDuration", "604800s").removesuffix("s"))
