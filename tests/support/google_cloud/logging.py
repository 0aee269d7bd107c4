"""Cloud Logging: the lines of the functions, which arrive late, and the metrics that count them."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.google_cloud import log_filters
from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.timeline import Timeline, seconds_of, stamp

HOST = "logging.googleapis.com"
NAME = re.compile(r"[A-Za-z0-9_\-.,+!*',()%/]{1,100}")
EXTRACTOR = re.compile(r"EXTRACT\(([\w.]+)\)")
FIXED = ("metricKind", "valueType")
# What Cloud Run takes from a line for the entry itself.
LIFTED = ("severity", "time", "httpRequest")
OUTPUT_ONLY = ("createTime", "updateTime", "resourceName")
ENTRIES_AT_ONCE = 1000


class Counted(NamedTuple):
    """A line that a metric has counted."""

    at: float
    labels: Mapping[str, str]


class Logs:
    """Of one project."""

    def __init__(self, project: str, time: Timeline, faults: Faults) -> None:
        self.entries: list[Document] = []
        self.metrics: dict[str, Document] = {}
        self._project = project
        self._time = time
        self._faults = faults
        self._numbers = itertools.count(1)
        # From when on each entry can be found.
        self._found_at: dict[str, float] = {}

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v2/projects/*/metrics"
        routes.add("POST", f"{HOST}/v2/entries:list", self._list_entries)
        routes.add("GET", base, lambda request, project: {"metrics": list(self.metrics.values())})
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda request, project, name: self._metric(name))
        routes.add("PUT", f"{base}/*", self._replace)
        routes.add("DELETE", f"{base}/*", self._delete)

    # --- lines ---

    def write(self, service: str, line: Mapping[str, Any], *, at: float | None = None) -> None:
        """A service writes a line, as `flowhook.logs` has it; it is received some time later."""
        written = self._time.now if at is None else at
        labels = {"service_name": service, "project_id": self._project, "location": "europe-west1"}
        payload = {name: value for name, value in line.items() if name not in LIFTED}
        received = max(written, self._time.now) + self._faults.logs_late
        number = f"{next(self._numbers):x}"
        self._found_at[number] = received + self._faults.logs_hidden
        self.entries.append(
            {
                "insertId": number,
                "logName": f"projects/{self._project}/logs/run.googleapis.com%2Fstdout",
                "resource": {"type": "cloud_run_revision", "labels": labels},
                "timestamp": stamp(written),
                "receiveTimestamp": stamp(received),
                "severity": line.get("severity", "DEFAULT"),
                "jsonPayload": payload,
            }
        )

    def _list_entries(self, request: Request) -> Document:
        """A page of what can be found by now. The first is empty though others follow, as Google's may be."""
        asked = request.document
        if asked.get("resourceNames") != [f"projects/{self._project}"]:
            raise Refusal(400, "The resource names are missing or somebody else's.")
        if asked.get("orderBy", "timestamp asc") not in ("timestamp asc", "timestamp desc"):
            raise Refusal(400, "The order is unknown.")
        takes = log_filters.parsed(asked.get("filter", ""))
        now = self._time.now
        found = [e for e in self.entries if self._found_at[e["insertId"]] <= now and takes(e)]
        if found and "pageToken" not in asked:
            return {"nextPageToken": "0"}
        found.sort(key=lambda entry: (entry["timestamp"], entry["insertId"]))
        start, size = int(asked.get("pageToken", 0)), min(asked.get("pageSize", 50), ENTRIES_AT_ONCE)
        size = self._faults.page_size or size
        rest = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return {"entries": found[start : start + size], **rest}

    def _received(self) -> Iterator[Document]:
        return (e for e in self.entries if seconds_of(e["receiveTimestamp"]) <= self._time.now)

    # --- metrics ---

    def counted(self, name: str) -> list[Counted]:
        """The lines that a metric has counted: what has been received since it was made."""
        metric = self.metrics.get(name)
        if metric is None or metric.get("disabled"):
            return []
        takes, since = log_filters.parsed(metric["filter"]), seconds_of(metric["createTime"])
        found = [e for e in self._received() if seconds_of(e["receiveTimestamp"]) >= since and takes(e)]
        return [Counted(seconds_of(entry["timestamp"]), _labels(metric, entry)) for entry in found]

    def _metric(self, name: str) -> Document:
        if name not in self.metrics:
            raise Refusal(404, f"Metric {name} does not exist.")
        return self.metrics[name]

    def _create(self, request: Request, project: str) -> Document:
        name = request.document.get("name", "")
        if name in self.metrics:
            raise Refusal(409, f"Metric {name} already exists")
        if not NAME.fullmatch(name):
            raise Refusal(400, "The metric's name is not valid.")
        return self._put(name, request.document, stamp(self._time.now))

    def _replace(self, request: Request, project: str, name: str) -> Document:
        present = self.metrics.get(name)
        given = request.document
        if given.get("name") != name:
            raise Refusal(400, "The name in the document is another one.")
        if present is None:
            return self._put(name, given, stamp(self._time.now))
        before, after = present["metricDescriptor"], given.get("metricDescriptor", {})
        if any(before[field] != after.get(field) for field in FIXED):
            raise Refusal(400, "The kind and the type of values can't be changed.")
        if not {label["key"] for label in before["labels"]} <= {label["key"] for label in after["labels"]}:
            raise Refusal(400, "Labels can't be removed.")
        return self._put(name, given, present["createTime"])

    def _put(self, name: str, given: Document, created: str) -> Document:
        _check_metric(given)
        descriptor = given["metricDescriptor"]
        made = {
            # The value type of a label that is text is the default, which is left out.
            "labels": [{k: v for k, v in label.items() if v != "STRING"} for label in descriptor["labels"]],
            "name": f"projects/{self._project}/metricDescriptors/{HOST}/user/{name}",
            "type": f"{HOST}/user/{name}",
        }
        fields = {field: value for field, value in given.items() if field not in OUTPUT_ONLY and value}
        times = {"createTime": created, "updateTime": stamp(self._time.now)}
        self.metrics[name] = {**fields, "metricDescriptor": {**descriptor, **made}, **times}
        return self.metrics[name]

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._metric(name)
        del self.metrics[name]
        return {}


def _check_metric(metric: Document) -> None:
    descriptor = metric.get("metricDescriptor", {})
    log_filters.parsed(metric.get("filter", ""))
    if not metric.get("filter"):
        raise Refusal(400, "A metric needs a filter.")
    if (descriptor.get("metricKind"), descriptor.get("valueType")) != ("DELTA", "INT64"):
        raise Refusal(400, "A counter is of kind DELTA and type INT64.")
    keys = {label["key"] for label in descriptor.get("labels", [])}
    if keys != set(metric.get("labelExtractors", {})) or len(keys) > 10:
        raise Refusal(400, "Each label needs an extractor, each extractor a label.")
    if not all(EXTRACTOR.fullmatch(text) for text in metric.get("labelExtractors", {}).values()):
        raise Refusal(400, "An extractor is not valid.")


def _labels(metric: Document, entry: Document) -> dict[str, str]:
    """What the extractors find; a field that isn't there is an empty label."""
    found = {}
    for label, extractor in metric.get("labelExtractors", {}).items():
        value: Any = entry
        for part in extractor.removeprefix("EXTRACT(").removesuffix(")").split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        found[label] = value if isinstance(value, str) else json.dumps(value)
    return found
