"""Cloud Monitoring: alert policies, channels, and what was measured of Pub/Sub's backlogs, minutes late."""

import itertools
import re
from collections.abc import Callable
from typing import Any

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, patched
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.pubsub import PubSub
from tests.support.google_cloud.timeline import Timeline, seconds_of, stamp

HOST = "monitoring.googleapis.com"
SUBSCRIPTION = "pubsub.googleapis.com/subscription/"
MEASURED = {f"{SUBSCRIPTION}oldest_unacked_message_age": 1, f"{SUBSCRIPTION}num_undelivered_messages": 2}


class Monitoring:
    """Of one project."""

    def __init__(self, pubsub: PubSub, time: Timeline, faults: Faults) -> None:
        self.alerts: dict[str, Document] = {}
        self.channels: dict[str, Document] = {}
        self.dashboards: dict[str, Document] = {}
        self._pubsub = pubsub
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
        shelf = _Shelf("dashboards", self.dashboards, lambda document: None, self._numbers)
        shelf.routes(routes, f"{HOST}/v1/projects/*")

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

    @staticmethod
    def _check_condition(threshold: Document) -> None:
        for given in filter(None, (threshold.get("filter", " "), threshold.get("denominatorFilter"))):
            if "resource.type" not in given or "metric.type" not in given:
                raise Refusal(400, "The filter must name a metric and a resource.")
        if threshold.get("comparison") != "COMPARISON_GT" or not threshold.get("duration", "").endswith("s"):
            raise Refusal(400, "The condition compares nothing.")
        if "denominatorFilter" in threshold and "denominatorAggregations" not in threshold:
            raise Refusal(400, "A ratio needs aggregations of both.")

    def _series(self, request: Request, project: str) -> Document:
        """The samples between two times that have arrived by now."""
        wanted = request.query["filter"]
        metric = next((m for m in MEASURED if f'"{m}"' in wanted), None)
        if metric is None:
            raise Refusal(400, "The filter names no metric that the fake has.")
        named = re.search(r'resource\.labels?\.subscription_id ?= ?"([^"]+)"', wanted)
        names = [named[1]] if named else list(self._pubsub.samples)
        start, end = (seconds_of(request.query[f"interval.{edge}Time"]) for edge in ("start", "end"))
        end = min(end, self._time.now - self._faults.metrics_late)
        series = [self._one(metric, name, start, end) for name in names]
        return {"timeSeries": [one for one in series if one["points"]]}

    def _one(self, metric: str, name: str, start: float, end: float) -> Document:
        points: list[Any] = []
        for sample in self._pubsub.samples.get(name, []):
            if start <= sample.at <= end:
                interval = {"startTime": stamp(sample.at), "endTime": stamp(sample.at)}
                value = {"int64Value": str(int(sample[MEASURED[metric]]))}
                points.insert(0, {"interval": interval, "value": value})
        resource = {"type": "pubsub_subscription", "labels": {"subscription_id": name}}
        kinds = {"metricKind": "GAUGE", "valueType": "INT64"}
        return {"metric": {"type": metric}, "resource": resource, **kinds, "points": points}


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
