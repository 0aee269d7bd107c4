"""The receiver that tutorials show, with a secret in a header: parse the request, publish, wait, answer."""

import hmac
import json
import os

import flask
import functions_framework
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.types import BatchSettings

# `BATCH_LATENCY`: seconds that the library waits for more messages; its default is 0.01.
latency = os.environ.get("BATCH_LATENCY")
settings = BatchSettings(max_latency=float(latency)) if latency else ()
publisher = PublisherClient(batch_settings=settings)
topic = publisher.topic_path(os.environ["GOOGLE_CLOUD_PROJECT"], os.environ["PUBSUB_TOPIC"])
secret = os.environ["WEBHOOK_SECRET"]


@functions_framework.http
def receive(request: flask.Request) -> tuple[str, int]:
    """Publish what a sender who knows the secret has sent."""
    if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {secret}"):
        return "unauthorized", 401
    event = json.loads(request.data)
    data = json.dumps(event).encode()
    publisher.publish(topic, data, operation=event["operationType"]).result()
    return "", 204
