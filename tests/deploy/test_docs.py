"""docs/deployment.md: its workflow is one, its options and lines exist, and so do its roles."""

import re
import subprocess
import sys
from pathlib import Path

from flowhook.deploy import alerts, options
from flowhook.deploy.usage import USAGE
from tests.support.receiver import ROOT

TEXT = (ROOT / "docs" / "deployment.md").read_text()


def block(language: str, marker: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    (one,) = [text for text in found if marker in text]
    return str(one)


def test_the_workflow_is_one_by_githubs_schema(tmp_path: Path) -> None:
    workflow = tmp_path / "deploy.yml"
    workflow.write_text(block("yaml", "runs-on"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, str(workflow)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_and_the_commands_are_shell(tmp_path: Path) -> None:
    steps = re.findall(r"run: (.*)", block("yaml", "runs-on"))
    scripts = [*steps, block("bash", "workload-identity-pools create")]
    for number, script in enumerate(scripts):
        path = tmp_path / f"{number}.sh"
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        # 2154: PROJECT comes from the workflow.
        done = subprocess.run(
            [Path(sys.executable).parent / "shellcheck", "--exclude=SC2154", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_workflow_deploys_one_at_a_time_without_a_key() -> None:
    workflow = block("yaml", "runs-on")
    assert "cancel-in-progress: false" in workflow
    assert "id-token: write" in workflow
    assert "credentials_json" not in workflow
    condition = block("bash", "attribute-condition")
    assert "assertion.repository ==" in condition
    assert "assertion.ref ==" in condition


def test_every_line_of_the_env_file_is_documented() -> None:
    for name in options.FILE_OPTIONS:
        assert f"`{name}`" in TEXT, name


def test_every_option_that_is_named_exists() -> None:
    ours = {f"--{name}" for usage in USAGE.values() for name in (*usage.valued, *usage.flags)} | {"--help"}
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose))
    assert named <= ours


def test_the_roles_of_the_table_are_those_of_the_commands() -> None:
    table = {
        role.removeprefix("roles/")
        for role in re.findall(r"`(roles/[\w.]+)`", TEXT.split("## From GitHub")[0])
    }
    commands = block("bash", "for role in")
    (listed,) = re.findall(r"for role in (.*?); do", commands, re.DOTALL)
    given = {*listed.replace("\\", "").split(), "iam.serviceAccountUser"}
    assert table == given


def test_the_alerts_are_named() -> None:
    assert f"more than {alerts.OLDEST // 60} minutes" in re.sub(r"\s+", " ", TEXT)
