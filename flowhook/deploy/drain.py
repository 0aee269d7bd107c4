"""Subscriptions that go away: worked off first, and what is left over is moved, never dropped.

Whether a push subscription has been worked off is known from metrics alone, minutes late:
https://cloud.google.com/pubsub/docs/monitoring#keep_subscribers_healthy
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowhook.deploy import messages, moments
from flowhook.deploy.kinds import KINDS, MONITORING
from flowhook.deploy.messages import Pulled
from flowhook.deploy.plan import handler_of
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api

METRIC = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
# Seconds: how far back samples are looked for, how far clocks may be apart, how often is looked.
WINDOW = 600
SKEW = 5
EVERY = 15.0
# Beyond a subscription's deadline, until a message that was being pushed is there for somebody else.
MARGIN = 15
PULLED_EVERY = 5.0


@dataclass(frozen=True)
class Sample:
    """A value at a time: how old the oldest message was that waited, 0 where none did."""

    at: float
    value: float

    @property
    def oldest(self) -> float:
        """When that message was published."""
        return self.at - self.value


def drained(samples: Sequence[Sample], since: float) -> bool:
    """Whether nothing from before `since` waits: so say the last two samples. No sample says nothing."""
    last = sorted(samples, key=lambda sample: sample.at)[-2:]
    return len(last) == 2 and all(sample.oldest >= since + SKEW for sample in last)


def wait(api: Api, place: Place, since: Mapping[str, float], seconds: float) -> set[str]:
    """Wait until nothing waits in subscriptions that is older than a time, each of its own.

    Gives those of which that is so after `seconds` at most.
    """
    ends, left = api.clock.now() + seconds, set(since)
    while True:
        left -= {name for name in left if drained(samples(api, place, name), since[name])}
        remaining = ends - api.clock.now()
        if not left or remaining <= 0:
            return set(since) - left
        api.clock.sleep(min(EVERY, remaining))


def samples(api: Api, place: Place, subscription: str, metric: str = METRIC) -> list[Sample]:
    """What was measured lately."""
    now = api.clock.now()
    found = api.pages(
        f"{MONITORING}/projects/{place.project}/timeSeries",
        "timeSeries",
        {
            "filter": f'metric.type = "{metric}" AND resource.labels.subscription_id = "{subscription}"',
            "interval.startTime": moments.stamp(now - WINDOW),
            "interval.endTime": moments.stamp(now),
            "view": "FULL",
        },
    )
    return [_sample(point) for series in found for point in series.get("points", ())]


def stop_pushing(api: Api, place: Place, subscription: str) -> None:
    """From now on messages wait for whoever pulls."""
    url = f"{KINDS['subscription'].address(place, subscription)}:modifyPushConfig"
    api.request("POST", url, {"pushConfig": {}})


def longest_pause(subscription: Mapping[str, Any]) -> float:
    """Seconds for which Pub/Sub may keep a message back that has failed; pulling doesn't shorten that."""
    policy = subscription.get("retryPolicy")
    return float(policy.get("maximumBackoff", "600s").removesuffix("s")) if policy else 0.0


def bury(api: Api, place: Place, subscription: str, quiet: float) -> int:
    """Move what waits in a subscription that is no longer pushed to the dead letters, and count it.

    Each goes with the attribute `handler`, and is acknowledged after it has been published. Ends when nothing
    from before has come for longer than `quiet` seconds: than a push or a pause after a failure may take.
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
            api.clock.sleep(PULLED_EVERY)
    return moved


def _letter(place: Place, subscription: str, message: Pulled) -> dict[str, str]:
    """The attributes of a dead letter: those that Pub/Sub gives its own, and whose it was."""
    return {
        **message.attributes,
        # What an operator had sent again names its handler itself.
        "handler": handler_of(place, subscription) or message.attributes.get("handler", ""),
        "CloudPubSubDeadLetterSourceSubscription": subscription,
        "CloudPubSubDeadLetterSourceSubscriptionProject": place.project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": message.published,
    }


def names(subscriptions: Iterable[str]) -> str:
    """For people."""
    return ", ".join(sorted(subscriptions))


def _sample(point: Mapping[str, Any]) -> Sample:
    value = point.get("value", {})
    return Sample(
        moments.stamped(point["interval"]["endTime"]),
        float(value.get("int64Value", value.get("doubleValue", 0))),
    )
