"""Cloud Monitoring: alert policies, channels, dashboards, and what was measured, minutes late."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.google_cloud import metrics
from tests.support.google_cloud.dashboards import Dashboards
from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, patched
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.logging import Logs
from tests.support.google_cloud.metrics import LOGGED, PUBSUB
from tests.support.google_cloud.pubsub import SAMPLED_EVERY, PubSub
from tests.support.google_cloud.timeline import Timeline, duration, seconds_of, stamp

HOST = "monitoring.googleapis.com"
SUBSCRIPTION, TOPIC = f"{PUBSUB}subscription/", f"{PUBSUB}topic/"
MEASURED = {f"{SUBSCRIPTION}oldest_unacked_message_age": 1, f"{SUBSCRIPTION}num_undelivered_messages": 2}
Labels = Mapping[str, str]


# At which second of a minute Pub/Sub looks at its topics: any will do.
SECOND = 37


class Point(NamedTuple):
    at: float
    value: int


class Monitoring:
    """Of one project."""

    def __init__(self, pubsub: PubSub, logs: Logs, time: Timeline, faults: Faults) -> None:
        self.alerts: dict[str, Document] = {}
        self.channels: dict[str, Document] = {}
        self._dashboards = Dashboards(logs)
        self._pubsub = pubsub
        self._logs = logs
        self._time = time
        self._faults = faults
        self._numbers = itertools.count(1)

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v3/projects/*"
        for collection, found, check in (
            ("alertPolicies", self.alerts, self._check_alert),
            ("notificationChannels", self.channels, _check_channel),
        ):
            shelf = _Shelf(collection, found, check, self._numbers, self._check_unused)
            shelf.routes(routes, base)
        routes.add("GET", f"{base}/timeSeries", self._series)
        self._dashboards.routes(routes)

    @property
    def dashboards(self) -> dict[str, Document]:
        return self._dashboards.found

    def _check_alert(self, policy: Document) -> None:
        if not policy.get("conditions") or policy.get("combiner") not in (
            "OR",
            "AND",
            "AND_WITH_MATCHING_RESOURCE",
        ):
            raise Refusal(400, "An alert needs conditions and a combiner.")
        for condition in policy["conditions"]:
            self._check_condition(condition.get("conditionThreshold", {}))
        for channel in policy.get("notificationChannels", []):
            if channel not in {document["name"] for document in self.channels.values()}:
                raise Refusal(404, f"The notification channel {channel} does not exist.")

    def _check_unused(self, name: str, force: bool) -> None:
        used = any(name in alert.get("notificationChannels", []) for alert in self.alerts.values())
        if used and not force:
            raise Refusal(400, f"The channel {name} is used by alert policies.", "FAILED_PRECONDITION")

    def _check_condition(self, threshold: Document) -> None:
        for which in ("filter", "denominatorFilter"):
            if which == "filter" or threshold.get(which):
                self._check_query(threshold.get(which, ""), threshold)
        if threshold.get("comparison") != "COMPARISON_GT" or not threshold.get("duration", "").endswith("s"):
            raise Refusal(400, "The condition compares nothing.")
        if "denominatorFilter" in threshold and "denominatorAggregations" not in threshold:
            raise Refusal(400, "A ratio needs aggregations of both.")

    def _check_query(self, given: str, threshold: Document) -> None:
        query = metrics.read(given, self._logs.metrics)
        if not query.names_resource:
            raise Refusal(400, "The filter must name a metric and a resource.")
        for aggregation in threshold.get("aggregations", []):
            metrics.check_aggregation(query.metric, aggregation)

    def _series(self, request: Request, project: str) -> Document:
        """What was measured between two times, as far as it has arrived by now."""
        query = metrics.read(request.query["filter"], self._logs.metrics)
        end = seconds_of(request.query["interval.endTime"])
        start = seconds_of(request.query.get("interval.startTime", request.query["interval.endTime"]))
        arrived = min(end, self._time.now - self._faults.metrics_late)
        found = []
        for labels, points in self._measured(query.type):
            within = [point for point in points if start <= point.at <= arrived]
            if query.takes(labels) and within:
                found.append((labels, within))
        if query.type in self._faults.unmeasured:
            if query.type.startswith(LOGGED):
                raise Refusal(404, f"Cannot find metric(s) that match type = {query.type!r}.")
            found = []
        if "aggregation.perSeriesAligner" in request.query:
            found = _aggregated(query.metric, found, request.query, end)
        return {"timeSeries": [_document(query, labels, points) for labels, points in found]}

    def _measured(self, metric: str) -> Iterator[tuple[Labels, list[Point]]]:
        """The series of a metric, as they are; of some nothing is known here."""
        if metric in MEASURED:
            for name, samples in self._pubsub.samples.items():
                points = [Point(sample.at, int(sample[MEASURED[metric]])) for sample in samples]
                yield {"resource.label.subscription_id": name}, points
        elif metric == f"{TOPIC}message_sizes":
            for name, times in self._pubsub.published.items():
                yield {"resource.label.topic_id": name}, [Point(_sampled(at), 1) for at in times]
        elif metric == f"{SUBSCRIPTION}push_request_count":
            for name, times in self._pubsub.acknowledged.items():
                labels = {"resource.label.subscription_id": name, "metric.label.response_class": "ack"}
                yield labels, [Point(_sampled(at), 1) for at in times]
        elif metric.startswith(LOGGED):
            for counted in self._logs.counted(metric.removeprefix(LOGGED)):
                labels = {f"metric.label.{label}": value for label, value in counted.labels.items()}
                yield labels, [Point(counted.at, 1)]


def _sampled(at: float) -> float:
    """When Pub/Sub notices what has happened: once in a minute."""
    return math.ceil((at - SECOND) / SAMPLED_EVERY) * SAMPLED_EVERY + SECOND


Series = list[tuple[Labels, list[Point]]]


def _aggregated(metric: metrics.Metric, series: Series, query: Mapping[str, str], end: float) -> Series:
    """Per period, counted back from the end, and over all series that have some labels in common."""
    given = (name.partition(".") for name in query if name.startswith("aggregation."))
    asked = {name: query[f"{prefix}.{name}"] for prefix, _, name in given}
    metrics.check_aggregation(metric, asked)
    field = asked.get("groupByFields", "").replace("labels", "label")
    period, unite = duration(asked["alignmentPeriod"]), max if "MAX" in asked["perSeriesAligner"] else sum
    groups: dict[str, dict[float, list[int]]] = defaultdict(lambda: defaultdict(list))
    for labels, points in series:
        for point in points:
            at = end - ((end - point.at) // period) * period
            groups[labels.get(field, "")][at].append(point.value)
    found: Series = []
    for value, periods in groups.items():
        united = [Point(at, unite(values)) for at, values in sorted(periods.items())]
        found.append(({field: value} if field else {}, united))
    return found


def _document(query: metrics.Query, labels: Labels, points: list[Point]) -> Document:
    def of(whose: str) -> dict[str, str]:
        prefix = f"{whose}.label."
        return {name.removeprefix(prefix): v for name, v in labels.items() if name.startswith(prefix)}

    return {
        "metric": {"type": query.type, "labels": of("metric")},
        "resource": {"type": query.metric.resource, "labels": of("resource")},
        "metricKind": query.metric.kind,
        "valueType": query.metric.value,
        "points": [_point(query.metric, point) for point in reversed(points)],
    }


def _point(metric: metrics.Metric, point: Point) -> Document:
    is_distribution = metric.value == "DISTRIBUTION"
    value: Document = {"int64Value": str(point.value)}
    if is_distribution:
        value = {"distributionValue": {"count": str(point.value)}}
    return {"interval": {"startTime": stamp(point.at), "endTime": stamp(point.at)}, "value": value}


class _Shelf:
    """A collection whose members get numbers."""

    def __init__(
        self,
        collection: str,
        found: dict[str, Document],
        check: Any,
        numbers: Any,
        check_removal: Callable[[str, bool], None] = lambda name, force: None,
    ) -> None:
        self._collection = collection
        self._found = found
        self._check = check
        self._check_removal = check_removal
        self._numbers = numbers

    def routes(self, routes: Routes, base: str) -> None:
        base = f"{base}/{self._collection}"
        routes.add("GET", base, self._list)
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda request, project, number: self._find(number))
        routes.add("PATCH", f"{base}/*", self._change)
        routes.add("DELETE", f"{base}/*", self._remove)

    def _find(self, number: str) -> Document:
        if number not in self._found:
            raise Refusal(404, f"There is no {self._collection}/{number}.")
        return self._found[number]

    def _list(self, request: Request, project: str) -> Document:
        return {self._collection: list(self._found.values())}

    def _create(self, request: Request, project: str) -> Document:
        self._check(request.document)
        number = str(next(self._numbers))
        self._found[number] = {**request.document, "name": f"projects/{project}/{self._collection}/{number}"}
        return self._found[number]

    def _change(self, request: Request, project: str, number: str) -> Document:
        mask = request.query.get("updateMask", "")
        if not mask:
            raise Refusal(400, "The fake wants a mask, for without one everything else is removed.")
        changed = patched(self._find(number), request.document, mask)
        self._check(changed)
        self._found[number] = changed
        return changed

    def _remove(self, request: Request, project: str, number: str) -> Document:
        self._check_removal(self._find(number)["name"], request.query.get("force") == "true")
        del self._found[number]
        return {}


def _check_channel(channel: Document) -> None:
    if channel.get("type") != "email" or "@" not in channel.get("labels", {}).get("email_address", ""):
        raise Refusal(400, "A channel needs a type and an address.")
