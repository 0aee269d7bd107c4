"""Break the deployment in one way after the other; the stories must notice each.

`python -m tests.deploy.mutants [WORD...]`: all, or those whose name has a word. A mutant is a copy of the
project in which one piece of text is another; it is killed where the stories that are named beside it fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "flowhook" / "deploy"
COPIED = (
    "flowhook",
    "flows_emulator",
    "handlers",
    "tests",
    "main.py",
    "pyproject.toml",
    "requirements.txt",
    "deploy.sh",
)
# Seconds after which a story hangs.
LONGEST = 300


class Mutant(NamedTuple):
    """What is replaced by what in a file of flowhook/deploy, and which stories (-k) should notice."""

    name: str
    file: str
    old: str
    new: str
    stories: str


LIFE, LOSS, FAULTS = "test_stories.py", "test_stories_loss.py", "test_stories_faults.py"
INTERRUPTED, HANDS = "test_stories_interrupted.py", "test_stories_hands.py"
PAUSING, LETTERS, REPLAYS = "test_stories_pausing.py", "test_stories_letters.py", "test_stories_replay.py"
INCIDENT, EXPORTS = "test_stories_incident.py", "test_stories_export.py"
MEASURING, AUDIT = "test_stories_measuring.py", "test_stories_audit.py"
TAIL = "test_stories_tail.py"

# The steps of deployment.carry_out.
IN_IF = " " * 16
DEPLOY = "deploy_function(run, {}, lambda command: run.around.gcloud(command, folder))\n"
RETIRE = f"{IN_IF}retirement.retire_handlers(run)\n"
CONSUME_LINE = IN_IF + DEPLOY.format("CONSUME")
INVOKER = f'{IN_IF}run.allow_these(_missing(run, "service", CONSUME))\n'
PUSHING = f"{IN_IF}start_pushing(run)\n"
RECEIVE_LINE = " " * 12 + DEPLOY.format("RECEIVE")
REMOVAL = "retirement.remove_unplanned(run)"
CONSUME_FIRST = CONSUME_LINE + INVOKER + PUSHING + RECEIVE_LINE
RECEIVE_FIRST = IN_IF + DEPLOY.format("RECEIVE") + CONSUME_LINE + INVOKER + PUSHING
# The steps of drain.move_to_dead_letters.
PUBLISHED = """            messages.publish(api, place, place.called("dead-letters"), letters)
"""
ACKNOWLEDGED = """            messages.acknowledge(api, place, subscription, waiting)
"""
# Those of kept.send.
PARCELS = f"{IN_IF}messages.publish(run.api, run.place, topic, given)\n"
TAKEN = f"{IN_IF}source.acknowledge(group)\n"

MUTANTS = (
    # The order that loses nothing.
    Mutant(
        "receive before consume", "deployment.py", CONSUME_FIRST, RECEIVE_FIRST, f"{LOSS}::before_receive"
    ),
    Mutant(
        "handlers go after consume has forgotten them",
        "deployment.py",
        f"{RETIRE}{CONSUME_LINE}",
        f"{CONSUME_LINE}{RETIRE}",
        f"{LOSS}::works_off or worked_off",
    ),
    Mutant(
        "pushed to before it may be invoked",
        "deployment.py",
        f"{INVOKER}{PUSHING}",
        f"{PUSHING}{INVOKER}",
        f"{LIFE}::grants_exactly",
    ),
    Mutant(
        "pushed to before consume knows the handler",
        "deployment.py",
        f"{CONSUME_LINE}{INVOKER}{PUSHING}",
        f"{PUSHING}{CONSUME_LINE}{INVOKER}",
        f"{LOSS}::pushed_to_after_that or buries_nothing",
    ),
    Mutant(
        "pushed to without having seen a push",
        "deployment.py",
        "    probing.wait_for_push(run.api, run.place)\n",
        "",
        f"{LOSS}::first_push",
    ),
    Mutant(
        "all are pushed with the doctor's",
        "deployment.py",
        "    run.do(doctors)\n",
        "    run.do(waiting)\n",
        f"{LOSS}::first_push",
    ),
    Mutant(
        "new subscriptions push at once",
        "deployment.py",
        'run.apply("subscription", but=("pushConfig",))',
        'run.apply("subscription"); run.apply("subscription")',
        f"{LOSS}::buries_nothing",
    ),
    Mutant(
        "removals before receive",
        "deployment.py",
        f"            {RECEIVE_LINE.strip()}\n        make_receive_public(run)\n",
        f"            {REMOVAL}\n            {RECEIVE_LINE.strip()}\n        make_receive_public(run)\n",
        f"{LOSS}::superseded_goes_last",
    ),
    # Draining.
    Mutant(
        "no sample is drained",
        "drain.py",
        "return len(last) == 2 and all(",
        "return all(",
        f"{LOSS}::measured",
    ),
    Mutant(
        "a removed handler is not waited for",
        "retirement.py",
        "        done |= drain.wait(run.api, run.place, pushing, minutes * MINUTE)\n",
        "",
        f"{LOSS}::worked_off",
    ),
    Mutant(
        "what is left is dropped",
        "retirement.py",
        "    run.api.together(partial(_move_left_over, run, name, name in done) for name in names)\n",
        "",
        f"{LOSS}::dead_letters",
    ),
    Mutant(
        "what is kept back after a failure is not waited for",
        "retirement.py",
        "        quiet = max(quiet, drain.longest_pause(subscription))\n",
        "",
        f"{INTERRUPTED}::left_over",
    ),
    Mutant(
        "a lost topic is no obstacle",
        "commands.py",
        "    deployment.check_topics(run)\n",
        "",
        f"{HANDS}::topic_deleted",
    ),
    Mutant(
        "names that are not escaped",
        "kinds.py",
        "quote(name, safe='@')",
        "quote(name, safe='%@')",
        f"{HANDS}::alphabets",
    ),
    Mutant(
        "what is superseded goes at once",
        "retirement.py",
        '    run.remove("subscription", *sorted(done))\n',
        '    run.remove("subscription", *sorted(since))\n',
        f"{LOSS}::fails_while",
    ),
    Mutant(
        "acknowledged before it is published again",
        "drain.py",
        PUBLISHED + ACKNOWLEDGED,
        ACKNOWLEDGED + PUBLISHED,
        f"{INTERRUPTED}::left_over",
    ),
    Mutant(
        "one that is left is forgotten",
        "drain.py",
        "for m in waiting]\n",
        "for m in waiting[1:]]\n",
        f"{LOSS}::dead_letters",
    ),
    Mutant(
        "names without a hash",
        "plan.py",
        'return f"{legacy_name(prefix, handler)[: deployed.LONGEST_NAME - HASH - 1]}-{digest}"',
        "return legacy_name(prefix, handler) + digest[:0]",
        f"{LIFE}::filter_that_changes",
    ),
    Mutant(
        "topics that retain nothing",
        "plan.py",
        ', "messageRetentionDuration": retained',
        "",
        f"{LIFE}::retain",
    ),
    # Secrets.
    Mutant(
        "a rotation that locks Flows out",
        "rotation.py",
        'b"\\n".join([new, *version.accepted])',
        "new",
        f"{LOSS}::rotation",
    ),
    Mutant(
        "printed before it is accepted",
        "rotation.py",
        "    services.all_traffic_on(",
        "    (lambda *_: None)(",
        f"{LOSS}::not_before",
    ),
    Mutant(
        "an old secret that stays",
        "rotation.py",
        "            disable_old(run.api, run.place, done)\n",
        "",
        f"{LOSS}::old_secret_is_refused",
    ),
    Mutant(
        "mounted by latest",
        "plan.py",
        '"version": facts.versions.get(place.secret, "1")}]',
        '"version": "latest"}]',
        f"{LIFE}::configures",
    ),
    Mutant(
        "back to what does not know the secret",
        "rollback.py",
        "    _require_current_secret(run, found[RECEIVE])\n",
        "",
        f"{LOSS}::does_not_know",
    ),
    Mutant(
        "back without pausing",
        "rollback.py",
        "        run.api.together(partial(retirement.stop_pushing, run, name) for name in unknown)\n",
        "",
        f"{LOSS}::lacks",
    ),
    Mutant(
        "back with receive first",
        "rollback.py",
        "for target in (CONSUME, RECEIVE):",
        "for target in (RECEIVE, CONSUME):",
        f"{LOSS}::consume_first",
    ),
    # Policies.
    Mutant(
        "a wrong role",
        "plan.py",
        'Binding("topic", place.called("events"), PUBLISHER',
        'Binding("topic", place.called("events"), SUBSCRIBER',
        f"{LIFE}::grants_exactly",
    ),
    Mutant(
        "consume open to everybody",
        "plan.py",
        'Binding("service", place.called(CONSUME), INVOKER, place.member("push"))',
        'Binding("service", place.called(CONSUME), INVOKER, EVERYBODY)',
        f"{LIFE}::grants_exactly",
    ),
    Mutant(
        "consume for the whole internet",
        "plan.py",
        '"ALLOW_ALL" if function == RECEIVE else "ALLOW_INTERNAL_ONLY"',
        '"ALLOW_ALL"',
        f"{LIFE}::configures",
    ),
    Mutant("policies of version 1", "policies.py", "VERSION = 3", "VERSION = 1", f"{FAULTS}::others_is_lost"),
    Mutant(
        "the audit configuration of others is dropped",
        "policies.py",
        'return {**policy, "version": VERSION, "bindings": given}',
        'return {"etag": policy["etag"], "version": VERSION, "bindings": given}',
        f"{FAULTS}::others_is_lost",
    ),
    Mutant(
        "a grant with a condition counts",
        "diff.py",
        " and _expression(given) == binding.condition\n",
        "\n",
        f"{FAULTS}::condition_is_no_grant",
    ),
    Mutant(
        "a lost race is an error",
        "policies.py",
        "if not (lost or refusal.status in (409, 412)) or",
        "if lost or",
        f"{FAULTS}::others_is_lost",
    ),
    Mutant(
        "traces of deleted accounts stay",
        "policies.py",
        "    kept = _without(policy, sorted(deleted))\n",
        "    kept = _without(policy, sorted(deleted)[:0])\n",
        f"{FAULTS}::traces",
    ),
    Mutant(
        "traces in the policies",
        "deletion.py",
        '    revoke_roles(run, names["account"])\n',
        "",
        f"{LIFE}::delete",
    ),
    Mutant(
        "planted openness is not seen",
        "comparison.py",
        "    for binding in unexpected(plan, state, place):\n",
        "    for binding in list(unexpected(plan, state, place))[:0]:\n",
        f"{LIFE}::anybody_may_call",
    ),
    # The cloud.
    Mutant(
        "no patience",
        "rest.py",
        '    return problem.reason.name != "policy-changed"\n',
        "    return False\n",
        f"{FAULTS}::gets_there",
    ),
    Mutant(
        "the first page is all",
        "rest.py",
        '            token = page.get("nextPageToken", "")\n',
        '            token = ""\n',
        f"{FAULTS}::pages",
    ),
    Mutant(
        "what is away is missing",
        "rest.py",
        '            if page.get("unreachable") and not tolerant:\n',
        '            if page.get("unreachable") and tolerant is None:\n',
        f"{FAULTS}::reached_now",
    ),
    Mutant(
        "created twice after a lost answer",
        "rest.py",
        "            if refusal.status != 409:\n",
        "            if refusal.status:\n",
        f"{FAULTS}::cut",
    ),
    Mutant(
        "two deployments at once",
        "lock.py",
        '    if holder.get("nonce") != mine["nonce"]:\n',
        '    if holder.get("nonce") == "":\n',
        f"{FAULTS}::same_time",
    ),
    Mutant(
        "the agent is taken for granted",
        "deployment.py",
        "        project.ensure_pubsub_agent(bootstrap, run.place)\n",
        "        pass\n",
        f"{FAULTS}::agent",
    ),
    Mutant(
        "a pinned split is kept",
        "functions.py",
        ', "--serve-all-traffic-latest-revision"',
        "",
        f"{FAULTS}::pinned",
    ),
    Mutant(
        "a pause that ends by itself",
        "plan.py",
        "pushing = facts.consume_url and not paused",
        "pushing = facts.consume_url",
        f"{FAULTS}::paused",
    ),
    # Measuring.
    Mutant(
        "what is answered first is not counted",
        "deployment.py",
        '"database", "metric")\n',
        '"database")\n',
        f"{MEASURING}::before_anything",
    ),
    Mutant(
        "a metric that counts every function",
        "metrics.py",
        "AND resource.labels.service_name=({services})",
        'AND NOT resource.labels.service_name=("{services[:0]}")',
        f"{MEASURING}::no_other_function",
    ),
    Mutant(
        "a dashboard is changed field by field",
        "kinds.py",
        "{**whole, **fields}",
        "fields",
        f"{MEASURING}::by_hand",
    ),
    # Auditing.
    Mutant(
        "no data is a zero",
        "counts.py",
        "    return Counts(counted, is_measured)\n",
        "    return Counts(counted, True)\n",
        f"{AUDIT}::no_data_is",
    ),
    Mutant("lag is a loss", "audit.py", "SKEW = 2 * MINUTE", "SKEW = 0", f"{AUDIT}::lag_is_no_loss"),
    Mutant(
        "what comes late is a loss", "audit.py", "LATE = 10 * MINUTE", "LATE = 0", f"{AUDIT}::lag_is_no_loss"
    ),
    Mutant(
        "a loss at a rush is lag",
        "audit.py",
        "return Span(min(starts, key=noise), min(ends, key=noise))",
        "return Span(starts[0], ends[0])",
        f"{AUDIT}::every_single_one",
    ),
    Mutant(
        "what was dropped is not missed",
        "audit.py",
        "if longest >= kept - NEAR:",
        "if longest >= kept + NEAR:",
        f"{AUDIT}::dropped",
    ),
    # Deliveries as they happen.
    Mutant(
        "lines that are found late are missed",
        "tail.py",
        "OVERLAP = 30",
        "OVERLAP = 0",
        f"{TAIL}::however_late",
    ),
    Mutant(
        "lines that are received late are missed",
        "tail.py",
        """f'receiveTimestamp>="{received}" AND timestamp>="{written}"'""",
        """f'timestamp>="{received}" AND timestamp>="{written}"'""",
        f"{TAIL}::however_late",
    ),
    Mutant(
        "lines are shown again",
        "tail.py",
        "            if key not in self._shown:\n",
        "            if key:\n",
        f"{TAIL}::however_late",
    ),
    Mutant(
        "an empty page is the last",
        "tail.py",
        """        token = page.get("nextPageToken", "")\n""",
        """        token = page.get("nextPageToken", "") if page.get("entries") else ""\n""",
        f"{TAIL}::as_they_happen",
    ),
    Mutant(
        "what is asked for grows and grows",
        "tail.py",
        "max([self._newest, asked_at - IDLE, *self._shown.values()])",
        "max([self._newest, *self._shown.values()])",
        f"{TAIL}::no_more_than_it_needs",
    ),
    # Away.
    Mutant(
        "a deletion of the secret",
        "deletion.py",
        'resource.kind in ("secret", "database")',
        'resource.kind == "database"',
        f"{LIFE}::keeps_the_secret",
    ),
    Mutant(
        "neighbours are deleted",
        "state.py",
        "if isinstance(labels, Mapping) and labels.get(OURS) == place.name:",
        'if isinstance(labels, Mapping) and str(labels.get(OURS, "")).startswith(place.name):',
        f"{LIFE}::neighbour",
    ),
    Mutant(
        "a removal without a word",
        "run.py",
        "    if run.options.prune:\n        return True\n    answer",
        "    return True\n    answer",
        f"{LIFE}::says_so",
    ),
    # Pausing.
    Mutant(
        "a pause without its date",
        "pausing.py",
        '{"labels": {PAUSED: since}, "pushConfig": {}}',
        '{"labels": {PAUSED: "1"}, "pushConfig": {}}',
        f"{PAUSING}::since_when",
    ),
    Mutant(
        "resumed without the token",
        "pausing.py",
        '{"labels": labels, "pushConfig": config}',
        '{"labels": labels, "pushConfig": {"pushEndpoint": config["pushEndpoint"]}}',
        f"{PAUSING}::afterwards",
    ),
    Mutant(
        "an alert about what is paused",
        "pausing.py",
        "plan.is_pushed(run.place, name) and PAUSED not in",
        "plan.is_pushed(run.place, name) or PAUSED not in",
        f"{PAUSING}::keeps_quiet",
    ),
    # Letters.
    Mutant(
        "a letter that is acknowledged before it is sent",
        "kept.py",
        PARCELS + TAKEN,
        TAKEN + PARCELS,
        f"{INCIDENT}::reaches",
    ),
    Mutant(
        "a letter that is not acknowledged",
        "kept.py",
        TAKEN,
        "",
        f"{LETTERS}::no_other",
    ),
    Mutant(
        "a letter for everybody",
        "kept.py",
        "return Parcel(message, run.place.called(REPLAY), given)",
        "return Parcel(message, run.place.called(EVENTS), given)",
        f"{LETTERS}::no_other",
    ),
    Mutant(
        "letters for who is paused",
        "kept.py",
        "if any(PAUSED in s.get",
        "if not any(True or s.get",
        f"{LETTERS}::stays",
    ),
    Mutant(
        "letters that are looked at and kept",
        "reading.py",
        "        look.release()\n",
        "        pass\n",
        f"{LETTERS}::takes_nothing_away",
    ),
    Mutant(
        "letters that come back while they are read",
        "reading.py",
        "            self._renew()\n",
        "",
        f"{LETTERS}::held",
    ),
    Mutant(
        "what comes back is sent for ever",
        "reading.py",
        "for m in waiting if not self._is_old(m))",
        "for m in waiting if False)",
        f"{LETTERS}::for_ever",
    ),
    Mutant(
        "the first empty answer is the end of the letters",
        "reading.py",
        "clock.now() - came_at < self.quiet",
        "clock.now() - came_at < 0",
        f"{REPLAYS}::comes_late",
    ),
    Mutant(
        "letters not seen again are not told",
        "kept.py",
        "- stay.total()) > 0:",
        "- stay.total()) < 0:",
        f"{LETTERS}::not_seen_again",
    ),
    Mutant(
        "dropped without an export",
        "kept.py",
        "            count += exports.write(file, chosen)\n",
        "            count += len(chosen)\n",
        f"{LETTERS}::exports_first",
    ),
    # Replays.
    Mutant(
        "a replay that is sought again",
        "replay.py",
        'if SOUGHT not in found["labels"] and not',
        "if not",
        f"{REPLAYS}::given_up",
    ),
    Mutant(
        "a replay that is never sought",
        "replay.py",
        "        _seek(run, name, found)\n",
        "        pass\n",
        f"{REPLAYS}::was_sought",
    ),
    Mutant(
        "a replay that a look gives up",
        "replay.py",
        "    return replace(begun, quiet=_quiet(run, bool(interrupted))), bool(interrupted)\n",
        "    return replace(begun, quiet=_quiet(run, bool(interrupted))), False\n",
        f"{REPLAYS}::given_up",
    ),
    Mutant(
        "a dead run that hides what it had",
        "replay.py",
        '"ackDeadlineSeconds": _deadline(run)',
        '"ackDeadlineSeconds": 600',
        f"{REPLAYS}::hands",
    ),
    Mutant(
        "a replay that doesn't wait for what it has counted",
        "replay.py",
        "            if sent.total() >= count:\n",
        "            if sent:\n",
        f"{REPLAYS}::comes_late",
    ),
    Mutant(
        "a replay that forgets what it has counted",
        "replay.py",
        "        unfinished = sent < count\n",
        "        unfinished = False\n",
        f"{REPLAYS}::not_seen_again",
    ),
    Mutant(
        "a replay without the handler's filter",
        "replay.py",
        '"filter": live.get("filter", "")',
        '"filter": ""',
        f"{REPLAYS}::alone",
    ),
    Mutant(
        "a replay under another id each time",
        "replay.py",
        'return Replay(name, f"{labels[BEGAN]}-',
        'return Replay(name, f"{run.api.clock.now()}-',
        f"{INCIDENT}::reaches",
    ),
    Mutant(
        "a replay for who is paused",
        "replay.py",
        '    if PAUSED in live["labels"]:\n',
        "    if PAUSED in live:\n",
        f"{REPLAYS}::paused",
    ),
    # Exports.
    Mutant(
        "an export that is sent twice",
        "replay_export.py",
        "last.digest == content.digest and",
        "last.digest == content and",
        f"{EXPORTS}::by_mistake",
    ),
    Mutant(
        "an export of which nothing is noted",
        "replay_export.py",
        "        self._notes.sent(self.count)\n",
        "",
        f"{EXPORTS}::killed",
    ),
    Mutant(
        "an export whose doubtful ones are not told",
        "replay_export.py",
        "                notes.sending(source.count + len(group))\n",
        "",
        f"{EXPORTS}::killed",
    ),
    Mutant(
        "an export that became another one",
        "replay_export.py",
        "    if sending.digest != content.digest:\n",
        "    if not sending.digest:\n",
        f"{EXPORTS}::mixed",
    ),
    Mutant(
        "an export that is written meanwhile",
        "replay_export.py",
        "                export.check_unchanged()\n",
        "",
        f"{EXPORTS}::while_it_is_sent",
    ),
    Mutant(
        "an export for everybody's handler",
        "replay_export.py",
        'if owner not in ("", run',
        'if owner in ("nobody", run.place.name, run',
        f"{EXPORTS}::rename or dropped",
    ),
    Mutant(
        "attributes that lie",
        "replay_export.py",
        "{**own, **known}",
        "{**known, **own}",
        f"{EXPORTS}::lie",
    ),
    Mutant(
        "an export that is sent by two",
        "journal.py",
        "            _lock(descriptor)\n",
        "            pass\n",
        f"{EXPORTS}::two_at_once",
    ),
    Mutant(
        "a broken line that is left out",
        "exports.py",
        '                raise DeployError(f"{self.path}: line {number} {mistake}") from None\n',
        "                continue\n",
        f"{EXPORTS}::no_letter or cut_off",
    ),
    Mutant(
        "whole before it is",
        "progress.py",
        "int(share * 100):3",
        "round(share * 100):3",
        "test_progress.py::drawn_whole",
    ),
)


def killed(mutant: Mutant) -> str:
    """How the mutant was noticed, empty where it was not."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_project(folder)
        broken = folder / "flowhook" / "deploy" / mutant.file
        broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
        file, _, words = mutant.stories.partition("::")
        return told(folder, f"tests/deploy/{file}", "-k", words)


def told(folder: Path, *arguments: str) -> str:
    """The story that fails, empty where none does."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": ""}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return "it takes for ever"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest can't tell: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[0].partition(" - ")[0] if done.returncode else ""


def copy_project(folder: Path) -> None:
    """What the stories need of it."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)


def survivors(chosen: Iterable[Mutant]) -> str:
    """Not broken at all: a story that fails then would kill every mutant."""
    files = sorted({mutant.stories.partition("::")[0] for mutant in chosen})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_project(folder)
        return told(folder, *(f"tests/deploy/{file}" for file in files))


def main(*words: str) -> int:
    """Print a table; the status is 1 if a mutant survives, or what is not broken fails."""
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    if gone := [m.name for m in chosen if m.old not in (DEPLOYMENT / m.file).read_text()]:
        raise SystemExit(f"what these replace is not there any more: {', '.join(gone)}")
    if failed := survivors(chosen):
        raise SystemExit(f"nothing is broken, and yet: {failed}")

    def examine(mutant: Mutant) -> tuple[Mutant, str, float]:
        started = time.monotonic()
        return mutant, killed(mutant), time.monotonic() - started

    alive = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, noticed, seconds in pool.map(examine, chosen):
            alive += not noticed
            print(f"{mutant.name:46} {seconds:4.0f} s  {noticed or 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} are killed.")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
