"""A desk to deploy from, and one in whose project a first deployment has been made."""

from pathlib import Path

import pytest

from tests.support.google_cloud.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "project", monkeypatch)


@pytest.fixture
def deployed(desk: Desk) -> Desk:
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    return desk
