"""gcloud knows the commands that the documents tell to run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS

pytestmark = pytest.mark.gcloud

TOLD = sorted({c.text for d in DOCUMENTS for c in d.commands() if c.words[0] == "gcloud"})


def test_the_commands_of_gcloud_exist(tmp_path: Path) -> None:
    lines = [text.replace("PROJECT", "flows-demo-1") for text in TOLD]
    # It ends with 0 whatever it finds; one that can't exist shows that it finds anything.
    lines.append("gcloud logging read --no-such-option")
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in lines]))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {told["command_string"]: told["success"] for told in json.loads(done.stdout)}
    assert found == {line: line != lines[-1] for line in lines}
    assert len(lines) > 2
