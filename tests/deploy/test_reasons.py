"""The catalogue: which answers are waited out, and which are told at once."""

import re

import pytest

from flowhook.deploy import reasons
from flowhook.deploy.reasons import CATALOGUE, Reason


def filled(reason: Reason) -> str:
    return reason.text(**{gap: f"some {gap}" for gap in re.findall(r"\{(\w+)\}", reason.wording)})


@pytest.mark.parametrize("reason", CATALOGUE, ids=lambda reason: reason.name)
def test_every_row_is_found_by_its_wording_and_names_its_source(reason: Reason) -> None:
    text = f"ERROR: (gcloud)\n {filled(reason)} And more."
    assert reasons.of_text(text) == reason
    assert reasons.of_text(text.replace(" ", "\n    ")) == reason
    assert reason.source


@pytest.mark.parametrize("reason", [row for row in CATALOGUE if row.reason], ids=lambda reason: reason.name)
def test_a_structured_reason_wins_over_the_wording(reason: Reason) -> None:
    details = [{"@type": reasons.ERROR_INFO, "reason": reason.reason}]
    assert reasons.of_error({"message": "something new", "details": details}) == reason


@pytest.mark.parametrize(
    "text",
    [
        "The caller does not have permission",
        "Build failed with status: FAILURE.",
        "One or more users named in the policy do not belong to a permitted customer.",
        "Resource 'projects/p/topics/t' was not found",
    ],
)
def test_what_stays_is_in_no_row(text: str) -> None:
    assert reasons.of_text(text) is None
    assert (
        reasons.of_error({"message": text, "details": [{"@type": "other", "reason": "SERVICE_DISABLED"}]})
        is None
    )
