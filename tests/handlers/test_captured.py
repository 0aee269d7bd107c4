"""Every handler takes every event that was captured (`python -m flowhook capture`)."""

import pytest

import handlers
from flowhook.discovery import discover
from flowhook.handler import Handler
from flowhook.testing import captured
from flowhook.testing.rehearsal import rehearse


@pytest.mark.parametrize("handler", discover(handlers), ids=lambda handler: handler.name)
def test_a_handler_takes_what_was_captured(handler: Handler) -> None:
    events = captured()
    if not events:
        pytest.skip("nothing is captured in tests/captured")
    failures = rehearse(handler, events)
    assert not failures, (
        f"{len(failures)} of {len(events)} events fail, {failures[0].event}: {failures[0].error!r}"
    )
