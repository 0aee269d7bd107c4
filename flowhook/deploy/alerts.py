"""The alerts: when somebody should look, and what each tells them to do."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flowhook.deploy.options import Options
from flowhook.deploy.resources import OURS, RECEIVE, Place, Resource

MINUTES = 60
WAITING = "waiting"
# A handler's oldest event may wait this long before somebody is told.
OLDEST = 15 * MINUTES
# Of the answers of receive, one in twenty.
ERRORS = 0.05
# In five minutes: a deployment's doctor has two requests refused.
REFUSALS = 10
# In an hour: a deployment's doctor has two or three things rejected.
REJECTED = 5
SUM = [{"alignmentPeriod": "300s", "perSeriesAligner": "ALIGN_DELTA", "crossSeriesReducer": "REDUCE_SUM"}]


def planned(options: Options, place: Place, watched: Sequence[str], channel: str) -> Iterator[Resource]:
    """The alerts, and the channel that they go through where an address is given.

    `watched` are the subscriptions whose oldest event must not wait for long.
    """
    if options.notification_email:
        labels = {"email_address": options.notification_email}
        yield Resource(
            "channel",
            options.notification_email,
            {"type": "email", "displayName": place.name, "labels": labels, "userLabels": {OURS: place.name}},
        )
    channels = [name for name in (channel, options.notification_channel) if name]
    for title, what_to_do, conditions in _alerts(options, place, watched):
        yield Resource(
            "alert", f"{place.name}: {title}", _policy(place, title, what_to_do, conditions, channels)
        )


def waiting(options: Options, place: Place, watched: Sequence[str], channel: str) -> Resource | None:
    """The alert about handlers that are not done with their events; None where there is none to watch."""
    name = f"{place.name}: {WAITING}"
    return next((r for r in planned(options, place, watched, channel) if r.name == name), None)


Condition = tuple[str, dict[str, Any]]


def _alerts(
    options: Options, place: Place, watched: Sequence[str]
) -> Iterator[tuple[str, str, list[Condition]]]:
    if options.pubsub:
        yield (
            "dead letters",
            "A handler has given up on an event, which waits in the subscription "
            f"`{place.called('dead-letters')}` for 31 days, with the subscription that it comes from in its "
            "attributes. The log says why it failed. Mend the handler, deploy, and send it again: "
            "`./deploy.sh dead-letters redrive`.",
            [("dead letters", _undelivered(place.called("dead-letters")))],
        )
    yield (
        "errors",
        "`receive` answers Flows with errors, or has too few instances (429). Its log says why; "
        "MAX_INSTANCES in the env file raises the limit. Flows sends again what was not accepted.",
        [
            ("5xx", _share_of_errors(place)),
            ("429", _requests(place, 'metric.labels.response_code = "429"', 0)),
        ],
    )
    yield (
        "rejected",
        f"Bodies that are no events, or events that a handler rejected, wait in `{place.called('rejected')}` "
        "for 31 days, each with the reason in its attributes.",
        [("rejected", _published(place.called("rejected")))],
    )
    yield (
        "refused",
        "Somebody calls `receive` without the secret: Flows, if its secret is not the one deployed here "
        "(`./deploy.sh rotate-secret`), or a stranger, whom nothing happens for.",
        [("401", _requests(place, 'metric.labels.response_code = "401"', REFUSALS))],
    )
    if watched:
        yield (
            WAITING,
            "The handler that ${resource.label.subscription_id} is named after has not been done with an "
            "event for 15 minutes: it fails or is too slow. Its log says which; the event is tried again.",
            [("oldest event", _oldest(watched))],
        )


def _policy(
    place: Place, title: str, what_to_do: str, conditions: Sequence[Condition], channels: Sequence[str]
) -> dict[str, Any]:
    return {
        "displayName": f"{place.name}: {title}",
        "combiner": "OR",
        "userLabels": {OURS: place.name},
        "documentation": {"content": what_to_do, "mimeType": "text/markdown"},
        "conditions": [
            {"displayName": f"{place.name}: {name}", "conditionThreshold": threshold}
            for name, threshold in conditions
        ],
        "notificationChannels": list(channels),
    }


def _threshold(filter_: str, aggregations: list[dict[str, str]], above: float, **more: Any) -> dict[str, Any]:
    return {
        "filter": filter_,
        "aggregations": aggregations,
        "comparison": "COMPARISON_GT",
        "thresholdValue": above,
        "duration": "0s",
        **more,
    }


def _undelivered(subscription: str) -> dict[str, Any]:
    return _threshold(
        'resource.type = "pubsub_subscription"'
        f" AND resource.labels.subscription_id = {json.dumps(subscription)}"
        ' AND metric.type = "pubsub.googleapis.com/subscription/num_undelivered_messages"',
        [{"alignmentPeriod": "300s", "perSeriesAligner": "ALIGN_MAX"}],
        0,
    )


def _oldest(names: Sequence[str]) -> dict[str, Any]:
    listed = ",".join(json.dumps(name) for name in names)
    return _threshold(
        f'resource.type = "pubsub_subscription" AND resource.labels.subscription_id = one_of({listed})'
        ' AND metric.type = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"',
        [{"alignmentPeriod": "60s", "perSeriesAligner": "ALIGN_MAX"}],
        OLDEST,
    )


def _published(topic: str) -> dict[str, Any]:
    return _threshold(
        f'resource.type = "pubsub_topic" AND resource.labels.topic_id = {json.dumps(topic)}'
        ' AND metric.type = "pubsub.googleapis.com/topic/send_request_count"',
        [{**SUM[0], "alignmentPeriod": "3600s"}],
        REJECTED,
    )


def _requests_filter(place: Place) -> str:
    return (
        'resource.type = "cloud_run_revision"'
        f" AND resource.labels.service_name = {json.dumps(place.called(RECEIVE))}"
        ' AND metric.type = "run.googleapis.com/request_count"'
    )


def _requests(place: Place, which: str, above: float) -> dict[str, Any]:
    return _threshold(f"{_requests_filter(place)} AND {which}", SUM, above)


def _share_of_errors(place: Place) -> dict[str, Any]:
    every = _requests_filter(place)
    failed = f'{every} AND metric.labels.response_code_class = "5xx"'
    return _threshold(failed, SUM, ERRORS, denominatorFilter=every, denominatorAggregations=SUM)
