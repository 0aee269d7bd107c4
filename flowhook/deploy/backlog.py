"""What waits in a subscription, as far as Google measures it: about, and minutes late."""

from dataclasses import dataclass

from flowhook.deploy import drain
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api, Document

UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"


@dataclass(frozen=True)
class Backlog:
    """About how many messages wait, and when the oldest was published; None where nothing is measured yet."""

    count: int | None
    oldest: float | None


def measured(api: Api, place: Place, subscription: str) -> Backlog:
    """The last samples."""
    counts = drain.samples(api, place, subscription, UNDELIVERED)
    ages = drain.samples(api, place, subscription)
    last_count = max(counts, key=lambda sample: sample.at, default=None)
    last_age = max(ages, key=lambda sample: sample.at, default=None)
    return Backlog(
        int(last_count.value) if last_count else None,
        last_age.oldest if last_age and last_age.value else None,
    )


def kept_until(subscription: Document, oldest: float) -> float:
    """When a subscription drops a message that was published at `oldest`."""
    return oldest + float(subscription.get("messageRetentionDuration", "604800s").removesuffix("s"))
