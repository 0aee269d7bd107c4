"""Pub/Sub's Publish in protobuf.

The classes are generated from `publish.proto`. Those of google-cloud-pubsub are equivalent, which is tested,
but take a third of a second of every start and 24 MB.
"""

from collections.abc import Iterable, Mapping, Sequence

from flowhook.pubsub.publish_pb2 import PublishRequest, PublishResponse


def encode(data: bytes, attributes: Mapping[str, str]) -> bytes:
    """A PublishRequest that holds one message and no topic. Raises ValueError or TypeError.

    Protobuf merges concatenated messages, so `to_topic` joins these to one request with all of them.
    https://protobuf.dev/programming-guides/encoding/#last-one-wins
    """
    request = PublishRequest()
    # Filled in place, one by one: `update` or the constructor takes half as long again.
    fields = request.messages.add(data=data).attributes
    for name, value in attributes.items():
        fields[name] = value
    return request.SerializeToString()


def to_topic(path: str, messages: Iterable[bytes]) -> bytes:
    """The PublishRequest of encoded messages to the topic at `path`."""
    return b"".join([PublishRequest(topic=path).SerializeToString(), *messages])


def message_ids(response: bytes) -> Sequence[str]:
    """The message ids in a PublishResponse."""
    return tuple(PublishResponse.FromString(response).message_ids)
