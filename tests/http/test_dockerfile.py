"""The Dockerfile: linted, and what it starts answers; built where docker runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from flowhook.cli.run import listens
from tests.support.ports import free_port
from tests.support.receiver import COMMAND, ROOT, end, environment, until

INSTRUCTIONS = [
    line.split(" ", 1) for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1].isupper()
]


def patterns(name: str) -> set[str]:
    """What a file of this name takes in or leaves out, without the ways in which the two kinds differ."""
    lines = (ROOT / name).read_text().splitlines()
    told = {line.replace("/", "", 1) if line.startswith(("/", "!/")) else line for line in lines if line}
    return {line.removeprefix("**/") for line in told if not line.startswith("#")} - {"!."}


def test_it_passes_the_linter() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_what_is_uploaded() -> None:
    assert patterns(".dockerignore") == patterns(".gcloudignore")


def test_it_runs_as_nobody_from_a_base_of_one_version() -> None:
    values = dict(INSTRUCTIONS)
    assert values["USER"] == "65534"
    assert re.fullmatch(r"python:3\.\d+-slim", values["FROM"])


def test_what_it_starts_answers(tmp_path: Path) -> None:
    """Its command over its files, with its variables, in this Python."""
    left_out = [line for line in patterns(".dockerignore") if line.startswith("flowhook/")]
    ignored = shutil.ignore_patterns("__pycache__", *(Path(line).name for line in left_out))
    for folder in ("flowhook", "handlers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "main.py", tmp_path)
    values = dict(INSTRUCTIONS)
    variables = dict(pair.split("=") for pair in values["ENV"].split())
    [program] = json.loads(values["CMD"])
    port = free_port()
    process = subprocess.Popen(
        [COMMAND.with_name(program)],
        cwd=tmp_path,
        env=environment(**{**variables, "PORT": str(port), "HOST": "127.0.0.1"}),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: listens(port) or process.poll() is not None)
        answer = httpx2.post(f"http://127.0.0.1:{port}", content=b"{}", trust_env=False)
        assert answer.json()["type"] == "urn:flowhook:problem:unauthentic"
    finally:
        end(process)


def test_it_is_built_where_docker_runs() -> None:
    docker = shutil.which("docker")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    if not docker or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("docker is not running")
    done = subprocess.run(
        [docker, "build", "--tag", "flowhook-test", ROOT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
