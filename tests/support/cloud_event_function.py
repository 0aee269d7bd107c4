"""What somebody else may put behind a subscription: a function of functions-framework for CloudEvents."""

from cloudevents.http import CloudEvent


def take(event: CloudEvent) -> None:
    """Tell what came."""
    print(event["id"], event["subject"], event.data["entityId"])
