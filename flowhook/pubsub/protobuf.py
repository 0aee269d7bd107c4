"""Pub/Sub's Publish in protobuf: the three messages of it that are needed, and their field numbers.

https://github.com/googleapis/googleapis/blob/master/google/pubsub/v1/pubsub.proto. The classes of
google-cloud-pubsub say the same, which is tested, but take a third of a second of every start and 24 MB.
They have a pool of their own, so that a handler may use both.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "google.pubsub.v1"


def encode(data: bytes, attributes: Mapping[str, str]) -> bytes:
    """A PublishRequest that holds one message and no topic. Raises ValueError or TypeError.

    Protobuf merges what is concatenated, so these joined to `to_topic` are a request of all of them.
    https://protobuf.dev/programming-guides/encoding/#last-one-wins
    """
    request = _Request()
    request.messages.add(data=data).attributes.update(attributes)
    encoded: bytes = request.SerializeToString()
    return encoded


def to_topic(path: str, messages: Iterable[bytes]) -> bytes:
    """The PublishRequest of encoded messages to the topic at `path`."""
    return b"".join([_Request(topic=path).SerializeToString(), *messages])


def message_ids(response: bytes) -> Sequence[str]:
    """What a PublishResponse says."""
    return tuple(_Response.FromString(response).message_ids)


def _describe() -> FileDescriptorProto:
    field = FieldDescriptorProto
    file = FileDescriptorProto(name="flowhook/pubsub.proto", package=PACKAGE, syntax="proto3")

    message = file.message_type.add(name="PubsubMessage")
    message.field.add(name="data", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_BYTES)
    name = f".{PACKAGE}.PubsubMessage.AttributesEntry"
    message.field.add(
        name="attributes", number=2, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=name
    )
    entry = message.nested_type.add(name="AttributesEntry")
    entry.options.map_entry = True
    for number, part in enumerate(("key", "value"), start=1):
        entry.field.add(name=part, number=number, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)

    request = file.message_type.add(name="PublishRequest")
    request.field.add(name="topic", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    name = f".{PACKAGE}.PubsubMessage"
    request.field.add(
        name="messages", number=2, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=name
    )

    response = file.message_type.add(name="PublishResponse")
    response.field.add(name="message_ids", number=1, label=field.LABEL_REPEATED, type=field.TYPE_STRING)
    return file


_pool = DescriptorPool()
_pool.AddSerializedFile(_describe().SerializeToString())
_Request: Any = GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.PublishRequest"))
_Response: Any = GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.PublishResponse"))
