"""docs/operations.md, followed: for each symptom its commands are run in their order, where it is so.

What follows a command after a # is what a person should see. What is quoted there must be in its output word
for word, and its exit status is 0 unless it says that it is 1. The commands of gcloud are gcloud's own to
judge: tests/deploy/test_documents.py asks it.
"""

import io
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from flowhook.deploy.terminal import CLEAR, Terminal
from tests.deploy.test_stories import pushed
from tests.deploy.test_stories_letters import DEAD, REJECTED, bury, event, ran_for, real_event, waiting
from tests.deploy.test_stories_pausing import name_of
from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, Desk
from tests.support.google_cloud.flows import body, post
from tests.support.google_cloud.simulated import identity
from tests.support.receiver import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
CHAPTER = TEXT.split("\n## On a bad day\n")[1].split("\n## ")[0]
SECTIONS = dict(part.split("\n", 1) for part in CHAPTER.split("\n### ")[1:])


@dataclass(frozen=True)
class Step:
    """A command, and what the document says that one sees."""

    words: list[str]
    seen: str

    @property
    def quoted(self) -> list[str]:
        return re.findall(r'"([^"]+)"', self.seen)

    @property
    def status(self) -> int:
        return int("exit status 1" in self.seen)


def steps(section: str) -> Iterator[Step]:
    """Those of a section, in their order."""
    found: Step | None = None
    for block in re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL):
        for line in block.splitlines():
            if line.lstrip().startswith("#"):
                assert found, line
                found = replace(found, seen=line.strip(" #"))
            else:
                if found:
                    yield found
                found = Step(shlex.split(line), "")
    if found:
        yield found


# --- the symptoms ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Incident:
    """How it comes about, what a person does by hand before a command, and what is so afterwards."""

    arrange: Callable[[Desk], None]
    by_hand: dict[str, Callable[[Desk], None]]
    judge: Callable[[Desk], None]


def send(
    desk: Desk, count: int, collection: str = "pipelinesPackets", host: str = "europe-west1"
) -> list[int]:
    found = [
        post(
            desk.plane,
            body(number, collection, "created", desk.plane.time.now),
            desk.accepted[-1],
            f"{host}/flowhook-receive",
        )
        for number in range(count)
    ]
    desk.plane.time.advance(60)
    return found


def handled(desk: Desk, handler: str) -> int:
    return sum(ran_for(desk).get(handler, {}).values())


def nothing(_desk: Desk) -> None:
    """There is nothing to do."""


def lose_a_grant(desk: Desk) -> None:
    """Somebody has tidied up."""
    desk.plane.iam.policies["topics/flowhook-events"]["bindings"] = []
    assert send(desk, 1) == [503]


def accepted_again(desk: Desk) -> None:
    assert send(desk, 3) == [200] * 3
    assert handled(desk, CHAT) == 3


def fail_for_long(desk: Desk) -> None:
    desk.plane.simulation.failing.add(CHAT)
    send(desk, 5)
    desk.plane.time.advance(17 * 3600)
    send(desk, 3, "users")


def mended(desk: Desk) -> None:
    desk.plane.simulation.failing.clear()


def all_handled(desk: Desk) -> None:
    desk.plane.time.advance(60)
    assert handled(desk, CHAT) == 5
    assert set(ran_for(desk)[LOG].values()) == {1}
    assert waiting(desk) == 0


def filter_away(desk: Desk) -> None:
    assert send(desk, 4, "users") == [200] * 4
    assert handled(desk, CHAT) == 0


def filter_mended(desk: Desk) -> None:
    desk.handlers({**HANDLERS, CHAT: ("packets.created", "users.*")})


def filtered_are_handled(desk: Desk) -> None:
    desk.plane.time.advance(60)
    assert handled(desk, CHAT) == 4
    assert set(ran_for(desk)[LOG].values()) == {1}


def one_secret_is_accepted(desk: Desk) -> None:
    assert len(desk.accepted) == 1
    assert send(desk, 1) == [200]


def region_away(desk: Desk) -> None:
    """What is in it answers nothing, and can't be listed."""
    send(desk, 2)
    desk.plane.faults.unreachable = {"europe-west1"}


def region_back(desk: Desk) -> None:
    desk.plane.faults.unreachable = set()


def other_region_serves(desk: Desk) -> None:
    assert {name.partition("/")[0] for name in desk.plane.functions.found} == {"us-central1"}
    assert send(desk, 3, host="us-central1") == [200] * 3
    assert handled(desk, CHAT) == 5


def crm_down(desk: Desk) -> None:
    fail_for_long(desk)
    assert desk.run("pause", CHAT).status == 0
    desk.plane.time.advance(7 * 3600)
    mended(desk)


def deploy_badly(desk: Desk) -> None:
    desk.handlers({LOG: ("*",)})
    assert desk.run("--yes").status == 0
    assert send(desk, 2) == [200] * 2


def correct(desk: Desk) -> None:
    desk.handlers(HANDLERS)


def latest_serves(desk: Desk) -> None:
    assert send(desk, 2) == [200] * 2
    assert handled(desk, CHAT) >= 2
    assert name_of(desk, CHAT) in pushed(desk)


def more_instances(desk: Desk) -> None:
    desk.environment("MAX_INSTANCES=40\n")


def forty_instances(desk: Desk) -> None:
    for function in desk.plane.functions.found.values():
        assert function["serviceConfig"]["maxInstanceCount"] == 40


def flood(desk: Desk) -> None:
    for number in range(50):
        assert post(desk.plane, event(number), b"not-the-secret") == 401


def reject(desk: Desk) -> None:
    desk.plane.pubsub.publish(REJECTED, real_event(1), {"reason": "not-an-event"})
    desk.plane.pubsub.publish(REJECTED, b"none", {"reason": "not-an-event"})
    bury(desk, CHAT, real_event(2), real_event(3))


def rejected_are_handled(desk: Desk) -> None:
    desk.plane.time.advance(60)
    assert set(ran_for(desk)[CHAT]) == {identity(real_event(number)) for number in (1, 2, 3)}
    assert waiting(desk) == 0
    assert [m.data for m in desk.plane.pubsub.waiting(REJECTED) if m.data == b"none"] == [b"none"]


def spend_a_night(desk: Desk) -> None:
    desk.plane.time.advance(6 * 3600)
    accepted_again(desk)
    desk.plane.time.advance(6 * 3600)


INCIDENTS = {
    "Flows says that deliveries fail": Incident(lose_a_grant, {}, accepted_again),
    "A handler fails since its last deployment": Incident(fail_for_long, {"--yes": mended}, all_handled),
    "A wrong filter kept events away": Incident(filter_away, {"--yes": filter_mended}, filtered_are_handled),
    "The secret leaked": Incident(nothing, {}, one_secret_is_accepted),
    "A region is down": Incident(
        region_away, {"--region us-central1 --prune --yes": region_back}, other_region_serves
    ),
    "The CRM was down for a day": Incident(crm_down, {}, all_handled),
    "A bad deployment": Incident(deploy_badly, {"--yes": correct}, latest_serves),
    "A quota, or the maximum of instances, is reached": Incident(
        nothing, {"--yes": more_instances}, forty_instances
    ),
    "A flood of unauthenticated requests": Incident(flood, {}, accepted_again),
    "Bodies are rejected": Incident(reject, {}, rejected_are_handled),
    "Did we lose anything last night?": Incident(spend_a_night, {}, nothing),
}


def test_each_symptom_is_followed_here() -> None:
    assert set(SECTIONS) - {"Roles"} == set(INCIDENTS)


def test_the_table_leads_to_all_of_them() -> None:
    """By GitHub's rule for the address of a heading."""
    addresses = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in SECTIONS}
    table = CHAPTER.split("\n### ")[0]
    assert set(re.findall(r"\]\(#([^)]+)\)", table)) >= addresses


def test_all_of_it_can_be_executed_or_judged() -> None:
    programs = {step.words[0] for section in SECTIONS for step in steps(section)}
    assert programs <= {"./deploy.sh", "gcloud"}


@pytest.mark.parametrize("section", INCIDENTS, ids=lambda section: section.replace(" ", "-"))
def test_the_commands_of_a_symptom_show_what_they_should_and_end_it(deployed: Desk, section: str) -> None:
    incident = INCIDENTS[section]
    incident.arrange(deployed)
    for step in steps(section):
        if step.words[0] == "gcloud":
            continue
        words = step.words[1:]
        incident.by_hand.get(" ".join(words), nothing)(deployed)
        ran = deployed.run(*words)
        assert ran.status == step.status, f"{words}: {ran.output}"
        assert [text for text in step.quoted if text not in ran.output] == [], f"{words}: {ran.output}"
        deployed.plane.time.advance(120)
    incident.judge(deployed)


# --- what a terminal shows ---------------------------------------------------------------------------------


class Screen:
    """What stands on a terminal: a carriage return and what clears the line are obeyed."""

    def __init__(self) -> None:
        self.written = io.StringIO()

    @property
    def text(self) -> str:
        return "\n".join(line.rpartition(CLEAR)[2] for line in self.written.getvalue().split("\n"))


def screen(desk: Desk, command: str) -> str:
    """A terminal after a command, or in the middle of it: as soon as it has sent a hundred."""
    shown, middle = Screen(), list[str]()
    terminal = Terminal(shown.written)

    def bar(text: str) -> None:
        terminal.bar(text)
        if "100 of" in text:
            middle.append(shown.text)

    shown.written.write(f"$ {command}\n")
    desk.bar, desk.told = bar, terminal.tell
    assert desk.run(*shlex.split(command)[1:]).status == 0
    return middle[0] if middle else shown.text


def form(text: str) -> str:
    """A text without what differs from time to time: numbers, and how wide columns are."""
    return re.sub(r" {2,}", "  ", re.sub(r"\d+", "0", text)).strip()


def blocks() -> dict[str, str]:
    """The screens of the document, by their commands."""
    found = re.findall(r"```text\n(\$ (.*)\n[^`]*)```", CHAPTER)
    return {command: text for text, command in found}


def test_the_list_is_what_the_command_shows(deployed: Desk) -> None:
    rejected = {"handler": LOG, "replay": "1", "category": "users", "operation": "updated"}
    bury(deployed, CHAT, event(1), event(2))
    deployed.plane.time.advance(600)
    bury(deployed, LOG, event(3, "users"))
    deployed.plane.pubsub.publish(DEAD, event(4), {**rejected, "ce-subject": "organizations/o/users/4"})
    deployed.plane.time.advance(300)
    command = "./deploy.sh dead-letters list"
    assert form(blocks()[command]) == form(screen(deployed, command))


def test_the_redrive_is_what_the_command_shows(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(250)))
    deployed.plane.time.advance(300)
    command = f"./deploy.sh dead-letters redrive --handler {CHAT} --yes"
    assert form(blocks()[command]) == form(screen(deployed, command))
