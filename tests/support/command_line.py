"""The commands, run as a person runs them: in a process of their own."""

import subprocess
import sys
from pathlib import Path

from tests.support.receiver import environment, usual_project


def flowhook(*arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m flowhook` with these arguments, in an environment of nothing but the settings.

    Without a folder it is that of `usual_project`.
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
