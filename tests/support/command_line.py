"""Runs commands as a user runs them, and imports modules, each in a new process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.receiver import ROOT, environment, usual_project


def flowhook(*arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m flowhook` with these arguments, in an environment of nothing but the settings.

    Without `cwd` it runs in `usual_project`.
    """
    command = [sys.executable, "-m", "flowhook", *arguments]
    return subprocess.run(
        command,
        cwd=cwd or usual_project(),
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def modules_after(statements: str, cwd: Path = ROOT, **settings: str) -> set[str]:
    """The modules that a new process has loaded after these statements; it doesn't measure coverage."""
    env = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **settings}
    command = [sys.executable, "-c", f"import sys\n{statements}\nprint(*sys.modules)"]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.split())
