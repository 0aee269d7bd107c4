"""A CloudEvent function of functions-framework, as others may put it behind a subscription."""

from cloudevents.http import CloudEvent


def take(event: CloudEvent) -> None:
    """Print what arrived."""
    print(event["id"], event["subject"], event.data["entityId"])
