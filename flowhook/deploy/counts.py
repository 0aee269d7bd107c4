"""How much of something there was in each minute, as Cloud Monitoring has it: minutes late, and with gaps.

https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flowhook.deploy import drain, metrics, moments
from flowhook.deploy.errors import Refusal
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api, Document

MINUTE, HOUR = 60, 3600
SIZES = "pubsub.googleapis.com/topic/message_sizes"
PUSHES = "pubsub.googleapis.com/subscription/push_request_count"
SUBSCRIPTION = "resource.label.subscription_id"


class Span(NamedTuple):
    """From when to when, in seconds since 1970, both at full minutes."""

    start: int
    end: int


def full_minute(moment: float) -> int:
    """The full minute that a time is in, both in seconds since 1970."""
    return int(moment // MINUTE) * MINUTE


@dataclass(frozen=True)
class Counts:
    """What was counted, by the end of the minute.

    `is_measured` is false where Cloud Monitoring has nothing at all for the time: that is no 0.
    """

    by_minute: Mapping[int, int] = field(default_factory=dict)
    is_measured: bool = False

    def within(self, span: Span) -> int:
        """How many after the start and until the end."""
        minutes = range(span.start + MINUTE, span.end + MINUTE, MINUTE)
        return sum(self.by_minute.get(minute, 0) for minute in minutes)


def answers(api: Api, place: Place, span: Span) -> dict[str, Counts]:
    """What `receive` has answered, by outcome; empty where nothing was measured."""
    label = "outcome"
    filter_ = f'metric.type = "{metrics.type_of(place)}"'
    found = _aligned(api, place, filter_, f"metric.label.{label}", span, "SUM", MINUTE)
    return {
        series.get("metric", {}).get("labels", {}).get(label, ""): Counts(_points(series), is_measured=True)
        for series in found
    }


def of_topic(api: Api, place: Place, what: str, span: Span) -> Counts:
    """The messages that a topic of ours has taken. A request has several, but the size of each is noted."""
    topic = json.dumps(place.called(what))
    filter_ = f'metric.type = "{SIZES}" AND resource.label.topic_id = {topic}'
    counted, is_measured = Counter[int](), False
    for series in _aligned(api, place, filter_, "resource.label.topic_id", span, "SUM", MINUTE):
        counted.update(_points(series))
        is_measured = True
    return Counts(counted, is_measured)


def acknowledged_pushes(api: Api, place: Place, subscription: str, span: Span) -> Counts:
    """The pushes of a subscription that its handler has acknowledged."""
    one = json.dumps(subscription)
    filter_ = f'metric.type = "{PUSHES}" AND metric.label.response_class = "ack" AND {SUBSCRIPTION} = {one}'
    for series in _aligned(api, place, filter_, SUBSCRIPTION, span, "SUM", MINUTE):
        return Counts(_points(series), is_measured=True)
    return Counts()


def longest_waits(api: Api, place: Place, span: Span) -> dict[str, int]:
    """Seconds that the oldest message waited at most, by subscription; what isn't measured is left out."""
    ours = json.dumps(f"{place.name}-.*")
    filter_ = f'metric.type = "{drain.METRIC}" AND {SUBSCRIPTION} = monitoring.regex.full_match({ours})'
    found = _aligned(api, place, filter_, SUBSCRIPTION, span, "MAX", HOUR)
    return {
        series.get("resource", {}).get("labels", {}).get("subscription_id", ""): max(
            _points(series).values(), default=0
        )
        for series in found
    }


def _aligned(  # noqa: PLR0913, PLR0917 - what an aggregation has
    api: Api, place: Place, filter_: str, kept: str, span: Span, unite: str, period: int
) -> Iterator[Document]:
    """The series of a metric, one for each value of the label that is kept, a point for each period."""
    asked = {
        "aggregation.alignmentPeriod": f"{period}s",
        "aggregation.perSeriesAligner": f"ALIGN_{unite}",
        "aggregation.crossSeriesReducer": f"REDUCE_{unite}",
        "aggregation.groupByFields": kept,
    }
    try:
        yield from drain.series(api, place, filter_, span.start, span.end, asked)
    except Refusal as refusal:
        # Cloud Monitoring knows a metric of a log some minutes after its first line at the latest.
        if refusal.status != 404:
            raise


def _points(series: Mapping[str, Any]) -> dict[int, int]:
    points = series.get("points", ())
    return {int(moments.stamped(p["interval"]["endTime"])): _number(p["value"]) for p in points}


def _number(value: Mapping[str, Any]) -> int:
    """A number as it is; of a distribution, how much was counted into it."""
    distribution = value.get("distributionValue", {})
    return int(float(value.get("int64Value", value.get("doubleValue", distribution.get("count", 0)))))
