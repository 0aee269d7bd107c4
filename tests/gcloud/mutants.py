"""Break deploy.sh in one way after the other; the tests must notice each.

`python -m tests.gcloud.mutants [WORD...]`: all, or those whose name has a word. A mutant is killed where
the assertion that is named beside it fails on the shortest story that can show it.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port
from tests import test_deploy as tests
from tests.gcloud.functions import Installed
from tests.gcloud.story import ENVIRONMENT, Step, Story
from tests.gcloud.workshop import Workshop, opened

Tell = Callable[[Workshop], Mapping[str, Step]]
Assertion = Callable[[Mapping[str, Step]], None]


def first(workshop: Workshop) -> Mapping[str, Step]:
    """The first deployment."""
    (workshop.folder / ".env.deploy").write_text(ENVIRONMENT)
    story = Story(workshop)
    story.step("first", "--yes")
    return {"second": story.steps["first"], "added": story.steps["first"], **story.steps}


def rotation(workshop: Workshop) -> Mapping[str, Step]:
    """A rotation of a secret that is there."""
    workshop.plane.enabled |= {f"{name}.googleapis.com" for name in tests.APIS}
    workshop.plane.secrets.versions["flowhook-secret"] = [("ENABLED", b"the-secret-before-the-rotation")]
    story = Story(workshop)
    story.step("removed", "--help")
    story.step("rotated", "rotate-secret")
    story.step("again", "rotate-secret")
    story.step("finished", "rotate-secret", "--finish")
    return story.steps


def denied(workshop: Workshop) -> Mapping[str, Step]:
    """A permission that is missing."""
    workshop.plane.enabled |= {f"{name}.googleapis.com" for name in tests.APIS}
    workshop.plane.faults["GET pubsub.googleapis.com/v1/projects/flows-demo-1/topics"] = 403
    story = Story(workshop)
    story.step("denied", "--yes")
    return story.steps


def unbuilt(workshop: Workshop) -> Mapping[str, Step]:
    """Accounts that are not known at once, and a build that fails."""
    workshop.plane.iam.unknown_for = 1
    workshop.plane.functions.builds_fail = True
    story = Story(workshop)
    story.step("build", "--yes")
    return story.steps


def removal(workshop: Workshop) -> Mapping[str, Step]:
    """A subscription of a handler that is gone."""
    plane = workshop.plane
    plane.enabled |= {f"{name}.googleapis.com" for name in tests.APIS}
    plane.pubsub.subscriptions["flowhook-extra.welcome"] = {
        "name": "projects/flows-demo-1/subscriptions/flowhook-extra.welcome",
        "labels": {"flowhook": "flowhook"},
    }
    story = Story(workshop)
    story.step("kept", "--yes", "--dry-run")
    del plane.pubsub.subscriptions["flowhook-extra.welcome"]
    return story.steps


def deletion(workshop: Workshop) -> Mapping[str, Step]:
    """A deployment, deleted."""
    story = Story(workshop)
    story.step("first", "--yes")
    story.step("deleted", "delete", "--yes")
    return story.steps


def refuses(steps: Mapping[str, Step]) -> None:
    """What can't be read is not taken for missing."""
    assert (steps["denied"].ran.status, steps["denied"].changes) == (1, [])


def keeps(steps: Mapping[str, Step]) -> None:
    """Nothing is deleted without a word."""
    assert "delete flowhook-extra" not in steps["kept"].ran.output


def waits(steps: Mapping[str, Step]) -> None:
    """It gets as far as the build, and fails there."""
    tests.test_a_build_that_fails_is_told_with_its_log(steps)
    assert "Not known everywhere yet" in steps["build"].ran.output


GRANTS = tests.test_a_first_deployment_grants_exactly_this
SUBSCRIPTIONS = tests.test_a_first_deployment_subscribes_exactly_this
FUNCTIONS = tests.test_a_first_deployment_configures_the_functions_like_this
PROOF = tests.test_the_end_of_a_deployment_proves_it
UPLOAD = tests.test_what_the_function_needs_is_uploaded_and_nothing_else
ROTATION = tests.test_a_rotation_accepts_both_secrets_until_it_is_finished
DELETION = tests.test_delete_keeps_the_secret_and_the_dead_letters


@dataclass(frozen=True)
class Mutant:
    """What is replaced by what, the story to tell, and who should notice."""

    name: str
    old: str
    new: str
    tell: Tell
    assertion: Assertion
    file: str = "deploy.sh"


MUTANTS = (
    Mutant(
        "a wrong role",
        "$NAME-events roles/pubsub.publisher",
        "$NAME-events roles/pubsub.editor",
        first,
        GRANTS,
    ),
    Mutant(
        "consume open to everybody", "--no-allow-unauthenticated", "--allow-unauthenticated", first, GRANTS
    ),
    Mutant(
        "the invoker is the wrong account",
        "roles/run.invoker serviceAccount:$(account push)",
        "roles/run.invoker serviceAccount:$(account consume)",
        first,
        GRANTS,
    ),
    Mutant(
        "a swapped topic",
        "|$MAX_RETRY|$NAME-dead-letters|",
        "|$MAX_RETRY|$NAME-rejected|",
        first,
        SUBSCRIPTIONS,
    ),
    Mutant("a dropped filter", '${filter:+"--message-filter=$filter"}', "", first, SUBSCRIPTIONS),
    Mutant("subscriptions that expire", " --expiration-period=never", "", first, SUBSCRIPTIONS),
    Mutant("a token for another audience", "audience=$audience", "audience=$endpoint", first, PROOF),
    Mutant(
        "dead letters that nobody may take",
        "bind pubsub-subscriptions run-services",
        "bind run-services",
        first,
        GRANTS,
    ),
    Mutant("one request at a time", "--concurrency=40 ", "", first, FUNCTIONS),
    Mutant("no secret for receive", " --set-secrets=$SECRET_PATH=$NAME-secret:latest", "", first, FUNCTIONS),
    Mutant(
        "the wrong reader of the secret",
        "secretAccessor serviceAccount:$(account receive)",
        "secretAccessor serviceAccount:$(account push)",
        first,
        GRANTS,
    ),
    Mutant("no proof", "read_again; fi\n    prove", "read_again; fi", first, PROOF),
    Mutant("an archive with everything", "/*\n!.", "", first, UPLOAD, ".gcloudignore"),
    Mutant(
        "a rotation that locks Flows out",
        'cat "$WORK/new"; echo; cat "$WORK/secret"',
        'cat "$WORK/new"',
        rotation,
        ROTATION,
    ),
    Mutant("an old secret that stays", "start disable_version", ": disable_version", rotation, ROTATION),
    Mutant(
        "a refusal taken for nothing",
        'state/$file.error" && return\n',
        'state/$file.error" && return\n    return 0\n',
        denied,
        refuses,
    ),
    Mutant("no patience", '"does not exist|', '"never|', unbuilt, waits),
    Mutant("a removal without a word", "if [[ -n $PRUNE ]]; then return; fi", "return", removal, keeps),
    Mutant(
        "a deletion of the secret",
        "if [[ -n $ALL ]] && known secrets",
        "if known secrets",
        deletion,
        DELETION,
    ),
    Mutant("traces in the policies", 'start unbind projects "$PROJECT"', ":", deletion, DELETION),
)


# Not broken at all: an assertion that fails on these would kill every mutant.
CONTROLS = (
    Mutant("control: a rotation", "", "", rotation, ROTATION),
    Mutant("control: a refusal", "", "", denied, refuses),
    Mutant("control: patience", "", "", unbuilt, waits),
    Mutant("control: a removal", "", "", removal, keeps),
    Mutant("control: a deletion", "", "", deletion, DELETION),
)


def killed(mutant: Mutant, emulator: Emulator, installed: Installed) -> str:
    """How the mutant was noticed, empty where it was not."""
    with (
        tempfile.TemporaryDirectory() as folder,
        opened("flows-demo-1", Path(folder), emulator, installed) as workshop,
    ):
        script = workshop.folder / mutant.file
        text = script.read_text()
        if mutant.old not in text:
            raise SystemExit(f"{mutant.name}: {mutant.old!r} is not in {mutant.file} any more")
        if mutant.old:
            script.write_text(text.replace(mutant.old, mutant.new))
        try:
            mutant.assertion(mutant.tell(workshop))
        except AssertionError as noticed:
            return (str(noticed).strip() or "an assertion").splitlines()[0][:70]
    return ""


def main(*words: str) -> int:
    """Print a table; the status is 1 if a mutant survives, or a control doesn't."""
    chosen = [
        mutant for mutant in (*CONTROLS, *MUTANTS) if not words or any(word in mutant.name for word in words)
    ]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        installed = Installed(Path(folder))

        def examine(mutant: Mutant) -> tuple[Mutant, str, float]:
            started = time.monotonic()
            # An emulator each, for all of them use the same names.
            with Emulator(free_port()) as emulator:
                return mutant, killed(mutant, emulator, installed), time.monotonic() - started

        for mutant, noticed, seconds in pool.map(examine, chosen):
            wrong += bool(noticed) != bool(mutant.old)
            told = f"killed    {mutant.assertion.__name__}" if noticed else "survived"
            print(f"{mutant.name:36} {seconds:4.0f} s  {told}", flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} as it should be: mutants are killed, controls survive.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
