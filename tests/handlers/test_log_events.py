"""log_events. Delete this with the handler."""

import logging

import pytest

from flowhook.testing import make_event

log_events = pytest.importorskip("handlers.log_events")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("packets.created", "pipelinesPackets/pk-7f3a created"),
        ("packets.updated", "pipelinesPackets/pk-7f3a updated: status, assigneeRef"),
        ("users.deleted", "users/us-ada deleted"),
    ],
)
def test_every_event_is_one_readable_line(caplog: pytest.LogCaptureFixture, name: str, line: str) -> None:
    with caplog.at_level(logging.INFO):
        log_events.log_event(make_event(name))
    assert caplog.messages == [line]
