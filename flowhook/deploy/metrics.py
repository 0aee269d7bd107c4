"""The metric of the plan: what `receive` has answered, counted from the lines of its log.

https://cloud.google.com/logging/docs/logs-based-metrics
"""

import json

from flowhook.deploy.resources import RECEIVE, Place, Resource

# The labels of the metric, and the field of a delivery's line that each is taken from.
LABELS = {"outcome": "outcome", "type": "event_type"}


def planned(place: Place) -> Resource:
    """The metric. It counts from its creation on, whatever the log's exclusion filters leave out."""
    descriptor = {
        "metricKind": "DELTA",
        "valueType": "INT64",
        "unit": "1",
        "labels": [{"key": label, "description": f"The {label} of a delivery."} for label in LABELS],
    }
    wanted = {
        "description": f"Deliveries that {place.called(RECEIVE)} has answered.",
        "filter": f"{lines_of(place, RECEIVE)} AND jsonPayload.outcome:*",
        "labelExtractors": {label: f"EXTRACT(jsonPayload.{field})" for label, field in LABELS.items()},
        "metricDescriptor": descriptor,
        "disabled": False,
    }
    return Resource("metric", name_of(place), wanted)


def name_of(place: Place) -> str:
    """The id of the metric."""
    return place.called("deliveries")


def type_of(place: Place) -> str:
    """What the metric is called in Cloud Monitoring."""
    return f"logging.googleapis.com/user/{name_of(place)}"


def lines_of(place: Place, *functions: str) -> str:
    """A filter of Cloud Logging for the lines of some functions, in whichever region."""
    services = " OR ".join(json.dumps(place.called(function)) for function in functions)
    return f'resource.type="cloud_run_revision" AND resource.labels.service_name=({services})'
