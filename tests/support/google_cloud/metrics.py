"""What Google measures, and how it may be asked for: https://cloud.google.com/monitoring/api/metrics_gcp."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.support.google_cloud.exchange import Document, Refusal


class Metric(NamedTuple):
    """Its kind, the type of its values, the resource that is measured, and labels beside the resource's."""

    kind: str
    value: str
    resource: str
    labels: frozenset[str] = frozenset()


RUN, PUBSUB, LOGGED = "run.googleapis.com/", "pubsub.googleapis.com/", "logging.googleapis.com/user/"
ANSWERS = frozenset({"response_code", "response_code_class"})
METRICS = {
    f"{RUN}request_count": Metric("DELTA", "INT64", "cloud_run_revision", ANSWERS),
    f"{RUN}request_latencies": Metric("DELTA", "DISTRIBUTION", "cloud_run_revision", ANSWERS),
    f"{RUN}container/startup_latencies": Metric("DELTA", "DISTRIBUTION", "cloud_run_revision"),
    f"{PUBSUB}subscription/oldest_unacked_message_age": Metric("GAUGE", "INT64", "pubsub_subscription"),
    f"{PUBSUB}subscription/num_undelivered_messages": Metric("GAUGE", "INT64", "pubsub_subscription"),
    f"{PUBSUB}subscription/dead_letter_message_count": Metric(
        "DELTA", "INT64", "pubsub_subscription", frozenset({"response_code"})
    ),
    f"{PUBSUB}subscription/push_request_count": Metric(
        "DELTA",
        "INT64",
        "pubsub_subscription",
        frozenset({"response_class", "response_code", "delivery_type"}),
    ),
    f"{PUBSUB}topic/message_sizes": Metric("DELTA", "DISTRIBUTION", "pubsub_topic"),
    f"{PUBSUB}topic/send_request_count": Metric(
        "DELTA", "INT64", "pubsub_topic", frozenset({"response_class", "response_code"})
    ),
}
RESOURCES = {
    "cloud_run_revision": {"project_id", "service_name", "revision_name", "location", "configuration_name"},
    "pubsub_subscription": {"project_id", "subscription_id"},
    "pubsub_topic": {"project_id", "topic_id"},
}
# Of which kinds and types of values each takes, as the description of Aligner has it.
NUMBERS, ALL = {"INT64", "DOUBLE"}, {"INT64", "DOUBLE", "DISTRIBUTION"}
ALIGNERS = {
    "ALIGN_RATE": ({"DELTA"}, NUMBERS),
    "ALIGN_DELTA": ({"DELTA"}, ALL),
    "ALIGN_SUM": ({"GAUGE", "DELTA"}, ALL),
    "ALIGN_MAX": ({"GAUGE", "DELTA"}, NUMBERS),
    "ALIGN_PERCENTILE_99": ({"GAUGE", "DELTA"}, {"DISTRIBUTION"}),
}
REDUCERS = {
    "REDUCE_NONE": ALL, "REDUCE_SUM": ALL, "REDUCE_MAX": NUMBERS, "REDUCE_PERCENTILE_50": ALL,
    "REDUCE_PERCENTILE_99": ALL,
}  # fmt: skip
TEXT = r'"(?:[^"\\]|\\.)*"'
TERM = re.compile(
    rf"(metric|resource)\.(type|labels?\.\w+) ?(!?=) ?({TEXT}|one_of\({TEXT}(?:,{TEXT})*\)"
    rf"|monitoring\.regex\.full_match\({TEXT}\))"
)
# A filter of Cloud Monitoring has a limit.
LONGEST = 2048
PROMQL = re.compile(r"\b(\w+):(\w+)_count\{([^{}]*)\}")


class Term(NamedTuple):
    """A comparison: of `metric.label.x` or `resource.label.y`, with one text, several, or a pattern."""

    field: str
    equal: bool
    value: str

    def takes(self, labels: Mapping[str, str]) -> bool:
        found, texts = labels.get(self.field, ""), re.findall(TEXT, self.value)
        wanted = [re.sub(r"\\(.)", r"\1", text[1:-1]) for text in texts]
        if self.value.startswith("monitoring.regex"):
            return bool(re.fullmatch(wanted[0], found)) == self.equal
        return (found in wanted) == self.equal


@dataclass(frozen=True)
class Query:
    """A filter, read: one metric, and which of its series."""

    type: str
    metric: Metric
    terms: tuple[Term, ...]
    # Whether it says which resource it means, as alerts and charts must.
    names_resource: bool

    def takes(self, labels: Mapping[str, str]) -> bool:
        return all(term.takes(labels) for term in self.terms)


def read(text: str, logged: Mapping[str, Document]) -> Query:
    """The query that a filter is; `logged` are the metrics of logs. Raises Refusal where it is none."""
    found = [TERM.fullmatch(part) for part in re.split(r" AND ", text)]
    if len(text) > LONGEST or not all(found):
        raise Refusal(400, f"The filter is not valid: {text}")
    terms = [Term(f"{m[1]}.{m[2].replace('labels', 'label')}", m[3] == "=", m[4]) for m in found if m]
    types = {term.field: term.value.strip('"') for term in terms if term.field.endswith(".type")}
    metric = _metric(types.get("metric.type", ""), logged)
    if types.get("resource.type", metric.resource) != metric.resource:
        raise Refusal(400, f"The metric is not one of {types['resource.type']}.")
    others = tuple(term for term in terms if not term.field.endswith(".type"))
    for term in others:
        check_field(term.field, metric)
    return Query(types["metric.type"], metric, others, "resource.type" in types)


def _metric(name: str, logged: Mapping[str, Document]) -> Metric:
    if name.startswith(LOGGED) and name.removeprefix(LOGGED) in logged:
        labels = logged[name.removeprefix(LOGGED)]["metricDescriptor"]["labels"]
        return Metric("DELTA", "INT64", "cloud_run_revision", frozenset(label["key"] for label in labels))
    if name not in METRICS:
        raise Refusal(404, f"Cannot find metric(s) that match type = {name!r}.")
    return METRICS[name]


def check_field(field: str, metric: Metric) -> None:
    """Raises Refusal where a metric has no such label."""
    whose, _, name = field.partition(".label.")
    if name not in (metric.labels if whose == "metric" else RESOURCES[metric.resource]):
        raise Refusal(400, f"The metric has no {field}.")


def check_aggregation(metric: Metric, aggregation: Mapping[str, object]) -> None:
    """Raises Refusal where values of a metric can't be brought together like this."""
    aligner = str(aggregation.get("perSeriesAligner", ""))
    reducer = str(aggregation.get("crossSeriesReducer", "REDUCE_NONE"))
    kinds, values = ALIGNERS.get(aligner, (set(), set()))
    reduced = values & REDUCERS.get(reducer, set())
    if metric.kind not in kinds or metric.value not in reduced:
        raise Refusal(400, f"{aligner} and {reducer} can't be used for {metric.kind} and {metric.value}.")
    if not re.fullmatch(r"\d+s", str(aggregation.get("alignmentPeriod", ""))):
        raise Refusal(400, "The alignment period is missing.")
    fields = aggregation.get("groupByFields", [])
    for field in fields if isinstance(fields, list) else [str(fields)]:
        check_field(str(field).replace("labels", "label"), metric)


def check_promql(text: str) -> None:
    """Raises Refusal where a query counts what no distribution of Google's is, or not with its labels."""
    names = {re.sub(r"[^\w:]", "_", name.replace("/", ":", 1)): m for name, m in METRICS.items()}
    found = PROMQL.search(text)
    metric = names.get(f"{found[1]}:{found[2]}") if found else None
    is_one = metric is not None and metric.value == "DISTRIBUTION" and text.count("(") == text.count(")")
    if found is None or metric is None or not is_one:
        raise Refusal(400, f"The query is not valid: {text}")
    labels = set(re.findall(r'(\w+)(?:=~|=)"', found[3]))
    if not labels <= {"monitored_resource", *metric.labels, *RESOURCES[metric.resource]}:
        raise Refusal(400, f"The metric has not all of {labels}.")
