"""When a subscription counts as worked off: only where two samples say so."""

import pytest

from flowhook.deploy import drain
from flowhook.deploy.drain import Sample

SINCE = 10_000.0


@pytest.mark.parametrize(
    ("samples", "drained"),
    [
        ([], False),
        ([Sample(SINCE + 60, 0)], False),
        ([Sample(SINCE + 60, 0), Sample(SINCE + 120, 0)], True),
        ([Sample(SINCE + 120, 0), Sample(SINCE + 60, 0)], True),
        ([Sample(SINCE + 60, 0), Sample(SINCE + 120, 130)], False),
        ([Sample(SINCE + 60, 70), Sample(SINCE + 120, 0)], False),
        ([Sample(SINCE + 60, 40), Sample(SINCE + 120, 90)], True),
        ([Sample(SINCE - 60, 0), Sample(SINCE - 1, 0)], False),
        ([Sample(SINCE - 60, 0), Sample(SINCE + 60, 0)], False),
        ([Sample(SINCE + 60, 70), Sample(SINCE + 120, 0), Sample(SINCE + 180, 0)], True),
    ],
)
def test_two_samples_in_turn_decide(samples: list[Sample], drained: bool) -> None:
    assert drain.drained(samples, SINCE) == drained
