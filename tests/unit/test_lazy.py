"""Importing flowhook costs nothing until a name of it is used, and reads as if everything were there."""

import subprocess
import sys

import pytest

import flowhook
from tests.support.receiver import ROOT

LIGHT = {"flowhook", "flowhook.categories", "flowhook.handler"}


def loaded_by(source: str) -> set[str]:
    """What a fresh interpreter has loaded after `source`, of flowhook and of pydantic."""
    script = f"{source}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        name for name in done.stdout.split() if name.partition(".")[0] in ("flowhook", "pydantic", "anyio")
    }


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import flowhook", {"flowhook"}),
        ("from flowhook import on", LIGHT),
        ("from flowhook import on\n@on('packets.updated')\ndef f(event): ...", LIGHT),
        ("from flowhook import Reject", {"flowhook", "flowhook.errors"}),
        ("import typing\nif typing.TYPE_CHECKING: from flowhook import Event", set()),
    ],
)
def test_a_name_loads_what_it_needs(source: str, modules: set[str]) -> None:
    assert loaded_by(source) == modules


def test_the_models_come_with_the_first_name_that_needs_them() -> None:
    assert {"pydantic", "flowhook.events"} <= loaded_by("from flowhook import Event")


def test_every_name_is_there_and_listed() -> None:
    assert set(flowhook.__all__) <= set(dir(flowhook))
    for name in flowhook.__all__:
        assert getattr(flowhook, name).__module__.startswith("flowhook.")


def test_a_name_that_is_not_there_is_missing_as_anywhere() -> None:
    with pytest.raises(AttributeError, match="module 'flowhook' has no attribute 'off'"):
        flowhook.off  # noqa: B018
    assert not hasattr(flowhook, "Router")
