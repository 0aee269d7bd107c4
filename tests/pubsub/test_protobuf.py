"""What goes over the wire is what Google's own classes write and read."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.pubsub_v1 import PublishRequest, PublishResponse, PubsubMessage
from hypothesis import given
from hypothesis import strategies as st

from flowhook.pubsub import protobuf
from tests.support.receiver import ROOT

TOPIC = "projects/demo/topics/flows"
MESSAGES = st.tuples(
    st.binary(max_size=300), st.dictionaries(st.text(max_size=9), st.text(max_size=200), max_size=4)
)


@given(st.lists(MESSAGES, max_size=5))
def test_googles_classes_read_every_message(messages: list[tuple[bytes, dict[str, str]]]) -> None:
    request = PublishRequest.deserialize(
        protobuf.to_topic(TOPIC, [protobuf.encode(*message) for message in messages])
    )
    expected = [PubsubMessage(data=data, attributes=attributes) for data, attributes in messages]
    assert request == PublishRequest(topic=TOPIC, messages=expected)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_what_googles_classes_answer_is_read(ids: list[str]) -> None:
    assert list(protobuf.message_ids(PublishResponse.serialize(PublishResponse(message_ids=ids)))) == ids


@pytest.mark.parametrize("value", ["\ud83d", 7, None])
def test_what_is_no_text_is_refused(value: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        protobuf.encode(b"x", {"a": value})


GENERATED = "flowhook/pubsub/publish_pb2"


def test_what_is_generated_is_what_the_proto_file_says(tmp_path: Path) -> None:
    command = ["-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, *command, "flowhook/pubsub/publish.proto"], cwd=ROOT, check=True)
    for ending in (".py", ".pyi"):
        assert (tmp_path / GENERATED).with_suffix(ending).read_text() == (
            (ROOT / GENERATED).with_suffix(ending).read_text()
        )


@pytest.mark.parametrize(
    "first",
    [
        "import google.pubsub_v1, flowhook.pubsub.protobuf",
        "import flowhook.pubsub.protobuf, google.pubsub_v1",
    ],
)
def test_a_handler_may_import_googles_classes_in_either_order(first: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", first], cwd=ROOT, check=True)
