"""The command line and the env file: data, read by an allow-list, and validated."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from flowhook.deploy import options
from flowhook.deploy.errors import DeployError
from flowhook.deploy.options import Options, UsageWanted
from flowhook.deploy.usage import USAGE

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env.deploy"


def read(*words: str, **environment: str) -> Options:
    return options.read(words, environment)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(env_file: Path) -> None:
    env_file.write_text("NAME=from-file\nREGION=us-central1\nMAX_INSTANCES=3\n")
    found = read("status", "--name", "typed", "--project=p-12345")
    assert (found.command, found.name, found.region, found.project) == (
        "status",
        "typed",
        "us-central1",
        "p-12345",
    )
    assert (found.max_instances, found.min_instances, found.delivery) == (3, 0, "pubsub")


def test_the_lines_of_the_file_go_where_they_belong_to_the_letter(env_file: Path) -> None:
    env_file.write_bytes(
        b"\xef\xbb\xbf# A comment.\r\n\r\nEVENTS=packets.*\r\n"
        b'GREETING=it says: "hello", twice=2\r\nEMPTY=\r\n'
    )
    found = read()
    assert found.settings == {"EVENTS": "packets.*"}
    assert found.variables == {"GREETING": 'it says: "hello", twice=2', "EMPTY": ""}


def test_another_file_is_read_instead(env_file: Path, tmp_path: Path) -> None:
    env_file.write_text("NAME=production\n")
    (tmp_path / "staging").write_text("NAME=staging\n")
    assert read("--env-file", str(tmp_path / "staging")).name == "staging"
    assert read().name == "production"


def test_what_the_handlers_are_told_is_in_no_text_of_the_options(env_file: Path) -> None:
    env_file.write_text("CRM_TOKEN=do-not-show-this\n")
    assert "do-not-show-this" not in repr(read())


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "BASH_ENV",
        "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "HOME",
        "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CORE_PROJECT", "K_SERVICE", "FUNCTION_TARGET",
        "GUNICORN_CMD_ARGS", "GIT_SSH_COMMAND",
    ],
)  # fmt: skip
def test_what_other_programs_obey_is_refused(name: str, env_file: Path) -> None:
    env_file.write_text(f"{name}=/tmp/evil\n")
    with pytest.raises(DeployError, match=rf"\.env\.deploy: {name} is not for handlers"):
        read()


@pytest.mark.parametrize("name", ["KAFKA_URL", "HOME_PAGE", "CRM_TOKEN", "GOOGLE_CHAT_URL", "USERNAME"])
def test_a_name_that_only_resembles_one_is_a_handlers(name: str, env_file: Path) -> None:
    env_file.write_text(f"{name}=value\n")
    assert read().variables == {name: "value"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("WEBHOOK_SECRET=mine\n", ".env.deploy: WEBHOOK_SECRET is set by this script"),
        ("A=1\nthe-secret-on-a-line\n", ".env.deploy: line 2 is not VARIABLE=value"),
        ("export A=1\n", "line 1 is not VARIABLE=value"),
        ("EVENTS=packages.*\n", "did you mean packets?"),
        ("DELIVERY_TIMEOUT=40\n", "at most 39 seconds"),
        ("MAX_INSTANCES=many\n", "MAX_INSTANCES=many: it must be a number"),
        ("MIN_INSTANCES=4\nMAX_INSTANCES=3\n", "MIN_INSTANCES, MAX_INSTANCES"),
        ("RETENTION_DAYS=32\n", "RETENTION_DAYS=32: from 1 to 31"),
        ("DRAIN_MINUTES=-1\n", "--drain-minutes -1"),
        ("NOTIFICATION_EMAIL=nobody\n", "it is no address"),
        ("PUBLIC=yes\n", "it must be iam or no-check"),
    ],
)
def test_a_mistake_in_the_file_is_told(text: str, told: str, env_file: Path) -> None:
    env_file.write_text(text)
    with pytest.raises(DeployError) as raised:
        read()
    assert told in str(raised.value)
    assert "the-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--project", "P; rm -rf /"), "it is no project's id"),
        (("--project", "../../x"), "it is no project's id"),
        (("--name", "X"), "--name X"),
        (("--name", "a-name-that-is-much-too-long"), "3 to 22"),
        (("--region", "europe"), "it is no region's name"),
        (("--delivery", "pigeon"), "it must be pubsub or inline"),
        (("--frobnicate",), "unknown argument --frobnicate"),
        (("frobnicate",), "unknown argument frobnicate"),
        (("--proj", "x"), "unknown argument --proj"),
        (("--name",), "expected one argument"),
        (("status", "--prune"), "unknown argument --prune"),
        (("--env-file", "nowhere"), "--env-file nowhere: there is no such file"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(words: tuple[str, ...], told: str, env_file: Path) -> None:
    with pytest.raises(DeployError) as raised:
        read(*words)
    assert told in str(raised.value)


def test_the_project_may_be_a_number_or_come_from_the_environment(env_file: Path) -> None:
    assert read("--project", "123456789012").project == "123456789012"
    assert read(CLOUDSDK_CORE_PROJECT="from-env-1").project == "from-env-1"


@pytest.mark.parametrize("command", ["", *(name for name in USAGE if name != "deploy")])
def test_help_names_every_option_of_its_command(command: str, env_file: Path) -> None:
    with pytest.raises(UsageWanted) as raised:
        read(*command.split(), "--help")
    text = str(raised.value)
    assert text.startswith(f"Usage: ./deploy.sh {command}".rstrip())
    usage = USAGE[command or "deploy"]
    assert [name for name in (*usage.valued, *usage.flags) if f"--{name}" not in text] == []
