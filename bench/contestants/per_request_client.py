"""The same with a client for each request, as several published receivers have it."""

import hmac
import json
import os

import flask
import functions_framework
from google.cloud.pubsub_v1 import PublisherClient

secret = os.environ["WEBHOOK_SECRET"]


@functions_framework.http
def receive(request: flask.Request) -> tuple[str, int]:
    """Publish what a sender who knows the secret has sent."""
    if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {secret}"):
        return "unauthorized", 401
    event = json.loads(request.data)
    with PublisherClient() as publisher:
        topic = publisher.topic_path(os.environ["GOOGLE_CLOUD_PROJECT"], os.environ["PUBSUB_TOPIC"])
        data = json.dumps(event).encode()
        publisher.publish(topic, data, operation=event["operationType"]).result()
    return "", 204
