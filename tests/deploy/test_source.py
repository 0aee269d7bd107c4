"""What is uploaded: the folder, or a copy of it that names what the handlers require."""

from pathlib import Path

import pytest

from flowhook.deploy import source
from flowhook.deploy.errors import DeployError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "handlers").mkdir(parents=True)
    (made / "flowhook" / "cli").mkdir(parents=True)
    (made / ".git").mkdir()
    (made / ".env").write_text("A_SECRET=of-mine")
    (made / ".gcloudignore").write_text(
        "/*\n!.\n!/main.py\n!/requirements.txt\n!/flowhook\n!/handlers\n/flowhook/*/\n"
    )
    for name in ("main.py", "flowhook/edge.py", "flowhook/cli/run.py", "handlers/mine.py", ".git/config"):
        (made / name).touch()
    (made / "requirements.txt").write_text("# Pinned.\nrequests==2.34.2\n")
    return made


def test_without_requirements_of_its_own_the_folder_itself_is_uploaded(folder: Path) -> None:
    with source.staged(folder) as staged:
        assert staged == folder


def test_a_copy_has_what_is_let_through_and_both_requirements(folder: Path) -> None:
    (folder / "handlers" / "requirements.txt").write_text(
        "# Mine.\nhubspot-api-client==12.0.0\nRequests>=2\n"
    )
    with source.staged(folder) as staged:
        names = {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()}
        lines = (staged / "requirements.txt").read_text().splitlines()
    assert not staged.exists()
    assert {".gcloudignore", "main.py", "flowhook/edge.py", "handlers/mine.py"} <= names
    assert not {".env", ".git/config"} & names
    assert lines == ["# Pinned.", "requests==2.34.2", "# Mine.", "hubspot-api-client==12.0.0"]


def test_a_conflict_is_told_with_both_lines(folder: Path) -> None:
    (folder / "handlers" / "requirements.txt").write_text("requests<2  # old\n")
    with pytest.raises(DeployError) as raised, source.staged(folder):
        pass
    assert "requests<2" in str(raised.value)
    assert "requests==2.34.2" in str(raised.value)
