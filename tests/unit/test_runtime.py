"""What a start leaves to the garbage collector."""

import os
import subprocess
import sys

import pytest

from flowhook import runtime
from tests.support.receiver import SECRET, usual_project

# What the collector would look through after a start, how often it does, and what it would have found.
REPORT = """
import gc, main
kept = len(gc.get_objects())
gc.unfreeze()
print(kept, gc.get_threshold()[0], gc.collect())
"""


@pytest.mark.parametrize("delivery", ["inline", "pubsub"])
def test_a_start_leaves_nothing_to_look_through_and_hardly_any_garbage(delivery: str) -> None:
    settings = {"DELIVERY": delivery, "GOOGLE_CLOUD_PROJECT": "demo", "WEBHOOK_SECRET": SECRET.decode()}
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        cwd=usual_project(),
        env={"PATH": os.environ["PATH"], "PUBSUB_EMULATOR_HOST": "127.0.0.1:1", **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, threshold, garbage = map(int, done.stdout.split())
    assert kept < 1_000
    assert threshold == runtime.THRESHOLD
    assert garbage < 1_000
