"""Drains subscriptions that are to be deleted, so that none of their messages is lost.

First its handler goes on until no old message waits, or the time for that is over. What is left then is moved
to the dead letters. Whether a push subscription is drained is known from metrics alone, which are some
minutes old: https://cloud.google.com/pubsub/docs/monitoring#keep_subscribers_healthy
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowhook.deploy import messages, moments
from flowhook.deploy.kinds import KINDS, MONITORING
from flowhook.deploy.messages import Pulled
from flowhook.deploy.plan import handler_of
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api, Document

METRIC = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
# Seconds: how old a sample may be, how far two clocks may differ, and how often samples are read.
WINDOW = 600
SKEW = 5
SAMPLE_INTERVAL = 15.0
# Seconds after the acknowledgement deadline until a message that was being pushed can be pulled.
MARGIN = 15
# Seconds between two pulls that return nothing.
PULL_INTERVAL = 5.0


@dataclass(frozen=True)
class Sample:
    """The value of a metric at a time, `at`, in seconds since 1970.

    For METRIC, the value is the age in seconds of the oldest message that waited, 0 where none did.
    """

    at: float
    value: float

    @property
    def oldest(self) -> float:
        """When the oldest message was published, in seconds since 1970."""
        return self.at - self.value


def drained(samples: Sequence[Sample], since: float) -> bool:
    """Return whether no message waits that was published before `since`, in seconds since 1970.

    The last two samples must both show it. With fewer than two it is unknown, and the function returns False.
    """
    last = sorted(samples, key=lambda sample: sample.at)[-2:]
    return len(last) == 2 and all(sample.oldest >= since + SKEW for sample in last)


def wait(api: Api, place: Place, since: Mapping[str, float], seconds: float) -> set[str]:
    """Wait until subscriptions are drained, for `seconds` at most, and return those that are.

    `since` has a time for each subscription: it is drained once no message from before that time waits.
    """
    ends, left = api.clock.now() + seconds, set(since)
    while True:
        left -= {name for name in left if drained(samples(api, place, name), since[name])}
        remaining = ends - api.clock.now()
        if not left or remaining <= 0:
            return set(since) - left
        api.clock.sleep(min(SAMPLE_INTERVAL, remaining))


def samples(api: Api, place: Place, subscription: str, metric: str = METRIC) -> list[Sample]:
    """Return the samples of a metric of a subscription in the last WINDOW seconds."""
    now = api.clock.now()
    filter_ = f'metric.type = "{metric}" AND resource.labels.subscription_id = "{subscription}"'
    found = series(api, place, filter_, now - WINDOW, now)
    return [_sample(point) for one in found for point in one.get("points", ())]


def series(  # noqa: PLR0913, PLR0917 - what Cloud Monitoring asks for
    api: Api,
    place: Place,
    filter_: str,
    start: float,
    end: float,
    aggregation: Mapping[str, str] | None = None,
) -> Iterator[Document]:
    """Iterate over the time series of a filter, with their points between two times in seconds since 1970."""
    asked = {
        "filter": filter_,
        "interval.startTime": moments.stamp(start),
        "interval.endTime": moments.stamp(end),
        "view": "FULL",
        **(aggregation or {}),
    }
    return api.pages(f"{MONITORING}/projects/{place.project}/timeSeries", "timeSeries", asked)


def stop_pushing(api: Api, place: Place, subscription: str) -> None:
    """Have a subscription push no more; its messages wait until they are pulled."""
    url = f"{KINDS['subscription'].address(place, subscription)}:modifyPushConfig"
    api.request("POST", url, {"pushConfig": {}})


def longest_pause(subscription: Mapping[str, Any]) -> float:
    """Return the seconds that Pub/Sub may wait, after a failure, until it delivers a message again.

    A pull returns such a message no earlier.
    """
    policy = subscription.get("retryPolicy")
    return float(policy.get("maximumBackoff", "600s").removesuffix("s")) if policy else 0.0


def move_to_dead_letters(api: Api, place: Place, subscription: str, quiet: float) -> int:
    """Move the messages of a subscription that pushes no more to the dead letters, and return how many.

    Each is published with the attribute `handler`, and only then acknowledged. The function returns once no
    pull has returned a message from before its start for `quiet` seconds and a margin. So `quiet` must be at
    least the acknowledgement deadline, and the longest pause after a failure where messages may have failed.
    """
    stopped, moved = api.clock.now(), 0
    quiet_since = stopped
    while api.clock.now() - quiet_since < quiet + MARGIN:
        waiting = messages.pull(api, place, subscription)
        if waiting:
            letters = [(m.data, _letter(place, subscription, m)) for m in waiting]
            messages.publish(api, place, place.called("dead-letters"), letters)
            messages.acknowledge(api, place, subscription, waiting)
            moved += len(waiting)
        if any(moments.stamped(message.published) <= stopped for message in waiting):
            quiet_since = api.clock.now()
        elif not waiting:
            api.clock.sleep(PULL_INTERVAL)
    return moved


def _letter(place: Place, subscription: str, message: Pulled) -> dict[str, str]:
    """Return the attributes of a dead letter: those that Pub/Sub adds to its own ones, and `handler`."""
    return {
        **message.attributes,
        # A message of the replay topic has its handler in an attribute already.
        "handler": handler_of(place, subscription) or message.attributes.get("handler", ""),
        "CloudPubSubDeadLetterSourceSubscription": subscription,
        "CloudPubSubDeadLetterSourceSubscriptionProject": place.project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": message.published,
    }


def listed(subscriptions: Iterable[str]) -> str:
    """Return the names of subscriptions as one line of text, sorted."""
    return ", ".join(sorted(subscriptions))


def _sample(point: Mapping[str, Any]) -> Sample:
    value = point.get("value", {})
    return Sample(
        moments.stamped(point["interval"]["endTime"]),
        float(value.get("int64Value", value.get("doubleValue", 0))),
    )
