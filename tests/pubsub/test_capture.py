"""What waits in a subscription is captured, and waits there still."""

import base64
from pathlib import Path

import httpx2

from flowhook import samples
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.testing import captured
from tests.support.command_line import flowhook


def test_a_subscription_is_captured_and_stays_as_it_is(emulator: Emulator, tmp_path: Path) -> None:
    topic = "captured"
    emulator.create_topic(topic)
    emulator.subscribe("waiting", topic)
    bodies = [samples.load(name) for name in samples.TYPES] + [b"not JSON"]
    url = f"http://{emulator.host}/v1/projects/{emulator.project}/topics/{topic}:publish"
    messages = [{"data": base64.b64encode(body).decode()} for body in bodies]
    assert httpx2.post(url, json={"messages": messages}).status_code == 200
    done = flowhook(
        "capture",
        "--subscription=waiting",
        f"--project={emulator.project}",
        f"--into={tmp_path}",
        PUBSUB_EMULATOR_HOST=emulator.host,
    )
    assert done.returncode == 0, done.stderr
    assert "24 events; 0 came again, 1 bodies are no events." in done.stdout
    assert {event.type for event in captured(folder=tmp_path)} == set(samples.TYPES)
    waiting = []
    while more := emulator.pull("waiting"):
        waiting += more
    assert len({message["messageId"] for message in waiting}) == 25


def test_a_subscription_that_is_not_there_is_said(emulator: Emulator, tmp_path: Path) -> None:
    done = flowhook(
        "capture",
        "--subscription=none",
        f"--project={emulator.project}",
        f"--into={tmp_path}",
        PUBSUB_EMULATOR_HOST=emulator.host,
    )
    assert done.returncode == 1
    assert "subscription none of demo can't be read" in done.stderr
    assert not [*tmp_path.iterdir()]
