"""The dashboard: how the receiver and each handler are, on one page with a fixed address.

https://cloud.google.com/monitoring/dashboards/api-dashboard
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowhook.deploy import metrics
from flowhook.deploy.options import Options
from flowhook.deploy.resources import FUNCTIONS, OURS, RECEIVE, Place, Resource

# The grid has this many columns; two charts stand beside each other.
COLUMNS, WIDTH, HEIGHT = 48, 24, 14
LINE, STACKED = "LINE", "STACKED_AREA"
A_MINUTE = "60s"
Fields = dict[str, Any]


def planned(options: Options, place: Place) -> Resource:
    """The dashboard. It names handlers by a pattern, so it stays the same when some come or go."""
    charts = [*_receiver(options, place), *(_handlers(place) if options.pubsub else ())]
    wanted = {
        "displayName": place.name,
        "labels": {OURS: place.name},
        "mosaicLayout": {"columns": COLUMNS, "tiles": [_tile(*chart) for chart in enumerate(charts)]},
    }
    return Resource("dashboard", place.name, wanted)


def link(place: Place) -> str:
    """Where a person looks at it."""
    page = f"https://console.cloud.google.com/monitoring/dashboards/builder/{place.name}"
    return f"{page}?project={place.project}"


def _receiver(options: Options, place: Place) -> Iterator[Fields]:
    deliveries = f'metric.type = "{metrics.type_of(place)}" AND resource.type = "cloud_run_revision"'
    by_label = [f"metric.label.{label}" for label in metrics.LABELS]
    yield _chart(
        "Events a second, by outcome and type",
        [_filtered(deliveries, "ALIGN_RATE", "REDUCE_SUM", by_label, STACKED)],
    )
    latencies = _service(place, "request_latencies")
    yield _chart(
        "How long receive takes: p50 and p99",
        [
            _filtered(latencies, "ALIGN_DELTA", f"REDUCE_PERCENTILE_{share}", legend=f"p{share}")
            for share in (50, 99)
        ],
        "ms",
    )
    yield _chart("Cold starts in 5 minutes", [_cold_starts(options, place)])
    refused = f'{_service(place, "request_count")} AND metric.label.response_code = "401"'
    yield _chart("Refused a second (401)", [_filtered(refused, "ALIGN_RATE", "REDUCE_SUM")])


def _handlers(place: Place) -> Iterator[Fields]:
    by_handler = ["resource.label.subscription_id"]
    pushes = _subscriptions(place, "push_request_count")
    failures = f'{pushes} AND metric.label.response_class != "ack"'
    yield _chart("Handlers: deliveries a second", [_filtered(pushes, "ALIGN_RATE", "REDUCE_SUM", by_handler)])
    yield _chart("Handlers: failures a second", [_filtered(failures, "ALIGN_RATE", "REDUCE_SUM", by_handler)])
    oldest = _subscriptions(place, "oldest_unacked_message_age")
    yield _chart(
        "Handlers: age of the oldest event that waits",
        [_filtered(oldest, "ALIGN_MAX", "REDUCE_MAX", by_handler)],
        "s",
    )
    buried = _subscriptions(place, "dead_letter_message_count")
    yield _chart("Handlers: dead letters", [_filtered(buried, "ALIGN_DELTA", "REDUCE_SUM", by_handler)])


def _service(place: Place, metric: str) -> str:
    name = json.dumps(place.called(RECEIVE))
    return (
        f'metric.type = "run.googleapis.com/{metric}" AND resource.type = "cloud_run_revision"'
        f" AND resource.label.service_name = {name}"
    )


def _subscriptions(place: Place, metric: str) -> str:
    """Those of the handlers, whose names have a point, and that of what is sent again."""
    ours = json.dumps(f"{place.name}-(replay|[^-.]+[.].+)")
    return (
        f'metric.type = "pubsub.googleapis.com/subscription/{metric}"'
        ' AND resource.type = "pubsub_subscription"'
        f" AND resource.label.subscription_id = monitoring.regex.full_match({ours})"
    )


def _cold_starts(options: Options, place: Place) -> Fields:
    """How many instances have started. In PromQL: no aligner counts what is in a distribution."""
    functions = "|".join(FUNCTIONS if options.pubsub else (RECEIVE,))
    which = f'monitored_resource="cloud_run_revision",service_name=~"{place.name}-({functions})"'
    query = f"increase(run_googleapis_com:container_startup_latencies_count{{{which}}}[5m])"
    return {
        "timeSeriesQuery": {"prometheusQuery": f"sum by (service_name) ({query})"},
        "plotType": "STACKED_BAR",
    }


def _filtered(  # noqa: PLR0913, PLR0917 - what an aggregation has
    filter_: str,
    aligner: str,
    reducer: str,
    kept: Sequence[str] = (),
    plot: str = LINE,
    legend: str = "",
) -> Fields:
    aggregation = {
        "alignmentPeriod": A_MINUTE,
        "perSeriesAligner": aligner,
        "crossSeriesReducer": reducer,
        "groupByFields": list(kept),
    }
    query = {"timeSeriesFilter": {"filter": filter_, "aggregation": aggregation}}
    return {"timeSeriesQuery": query, "plotType": plot, "legendTemplate": legend}


def _chart(title: str, data: Sequence[Fields], unit: str = "") -> Fields:
    axis = {"yAxis": {"label": unit, "scale": "LINEAR"}} if unit else {}
    return {"title": title, "xyChart": {"dataSets": list(data), **axis}}


def _tile(number: int, widget: Mapping[str, Any]) -> Fields:
    """Two in a row."""
    row, column = divmod(number, COLUMNS // WIDTH)
    position = {"xPos": column * WIDTH, "yPos": row * HEIGHT, "width": WIDTH, "height": HEIGHT}
    return {**position, "widget": dict(widget)}
