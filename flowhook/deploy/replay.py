"""Sending a handler what it has had before, or should have had: events of a time, read from the topic itself.

Live subscriptions are never sought. A subscription for the replay alone, with the filter of the handler, is
sought to the time; what is read there is published to the topic of replays, for this handler. It goes at the
end, and by itself some days after the command has died.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from flowhook.deploy import kept, kinds, letters, moments, pausing, progress, replay_export
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import KINDS
from flowhook.deploy.letters import Selection
from flowhook.deploy.messages import Pulled
from flowhook.deploy.plan import REPLAY
from flowhook.deploy.reading import DEADLINE, PAUSE, Reading, reading
from flowhook.deploy.reading import QUIET as SHORT
from flowhook.deploy.resources import OURS, PAUSED, SINCE, Resource
from flowhook.deploy.rest import Document
from flowhook.deploy.run import Deployment, agreed

DAY = 86400
# The labels of a replay's subscription: when it began, which is its id, and from when to when it sends.
BEGAN, FROM, TO = "flowhook-replay", "flowhook-replay-from", "flowhook-replay-to"
SOUGHT = "flowhook-replay-sought"
# Seconds: seeking takes about a minute to have effect. https://cloud.google.com/pubsub/docs/replay-overview
# It is longer than the subscription's deadline too, for which a run that was killed hides what it had pulled.
QUIET = 70.0
# The shortest that there is, for the emulator, where somebody is trying things out.
SHORTEST_DEADLINE = 10


@dataclass(frozen=True)
class Replay:
    """One replay: the subscription that it reads, what tells it from others, and which events are meant."""

    subscription: str
    id: str
    selection: Selection
    # Seconds without anything new after which nothing more is expected.
    quiet: float = QUIET


def replay(run: Deployment) -> None:
    """Send what is meant to the handler again, once somebody says yes. Raises DeployError."""
    if not run.options.file and (run.options.again or run.options.of):
        raise DeployError("--again and --of are about an export: --file EXPORT")
    live = _live(run)
    if run.options.file:
        replay_export.replay(run)
    else:
        _from_topic(run, live)


def _from_topic(run: Deployment, live: Document) -> None:
    """The same, of what the topic still has."""
    found, unfinished = _begun(run, live)
    try:
        count = _counted(run, found)
        if unfinished and not count:
            run.tell(f"Nothing is left of replay {found.id}: all of it has been sent.")
            unfinished = False
            return
        if run.options.dry_run or not count:
            run.tell("Nothing has been sent.")
            return
        agreed(run, f"Send at least {count} events to {run.options.handler} again?")
        unfinished = True
        sent = _sent(run, found, count)
        unfinished = sent < count
        run.tell(f"{sent} sent to {run.options.handler}, as replay {found.id}.")
    finally:
        # What was begun before is not given up by a look, a no or Ctrl-C either.
        if unfinished:
            run.tell("Run it again with the same words: it goes on where it stopped.")
        else:
            run.api.remove(KINDS["subscription"].address(run.place, found.subscription))


def _live(run: Deployment) -> Document:
    """The handler's subscription. Raises DeployError where it can't get anything now."""
    handler = run.options.handler
    if run.options.emulator:
        # It filters nothing, nor does it know what is deployed: `consume` drops what is not meant.
        return {"topic": f"projects/{run.place.project}/topics/{run.place.called(kept.EVENTS)}"}
    names = pausing.handlers(run).get(handler, [])
    known = kept.handlers_of_consume(run)
    if not names or (known is not None and handler not in known):
        told = ", ".join(sorted(pausing.handlers(run))) or "none"
        raise DeployError(f"no handler {handler} is deployed; these are: {told}")
    # One that takes another one's place has the newer filter.
    live = max(
        (run.state.found["subscription", name] for name in names),
        key=lambda subscription: int(subscription["labels"].get(SINCE, 0)),
    )
    if PAUSED in live["labels"]:
        raise DeployError(f"{handler} is paused: ./deploy.sh resume {handler}")
    return live


def _begun(run: Deployment, live: Document) -> tuple[Replay, bool]:
    """The replay of these words that was interrupted, or else a new one, and whether it is the former."""
    if not run.options.since:
        raise DeployError("replay HANDLER --since 2h, or --from T --to T, or --file EXPORT: since when?")
    name = f"{run.place.called('replaying')}-{_digest(run)}"
    url = KINDS["subscription"].address(run.place, name)
    interrupted = run.api.find(url)
    if interrupted:
        times = (moments.shown(float(interrupted["labels"][edge])) for edge in (FROM, TO))
        run.tell(f"A replay with these words was interrupted, and goes on: {' to '.join(times)}.")
    found = interrupted or run.api.create("PUT", url, _fields(run, live), lambda: run.api.find(url))
    # The emulator gives a new subscription all that its topic retains, and can't change a label.
    if SOUGHT not in found["labels"] and not run.options.emulator:
        _seek(run, name, found)
    begun = _of(run, name, found["labels"])
    return replace(begun, quiet=_quiet(run, bool(interrupted))), bool(interrupted)


def _fields(run: Deployment, live: Document) -> Document:
    """A subscription for the times that are meant. Raises DeployError where they can't be."""
    options, now, retained = run.options, run.api.clock.now(), _retained(run)
    since = moments.given(options.since, "--since", now)
    until = moments.given(options.until, "--to", now) if options.until else now
    _check_times(since, until, now, retained)
    return {
        "topic": live["topic"],
        "filter": live.get("filter", ""),
        "labels": {OURS: run.place.name, BEGAN: str(int(now)), FROM: str(int(since)), TO: str(int(until))},
        # It keeps what the topic keeps, and goes by itself after more than that: less is refused.
        "messageRetentionDuration": f"{retained}s",
        "expirationPolicy": {"ttl": f"{retained + DAY}s"},
        "ackDeadlineSeconds": _deadline(run),
    }


def _deadline(run: Deployment) -> int:
    """Seconds after which another run sees what one that was killed had in its hands."""
    return SHORTEST_DEADLINE if run.options.emulator else DEADLINE


def _quiet(run: Deployment, interrupted: bool) -> float:
    """Longer than what may hide messages: nothing but what another run has pulled, in the emulator."""
    if not run.options.emulator:
        return QUIET
    return SHORTEST_DEADLINE + PAUSE if interrupted else SHORT


def _seek(run: Deployment, name: str, found: Document) -> None:
    """Have it begin at its time, and note that: sought once more, it would send again what has been sent."""
    url = KINDS["subscription"].address(run.place, name)
    run.api.request("POST", f"{url}:seek", {"time": moments.stamp(float(found["labels"][FROM]))})
    kinds.change(run.api, Resource("subscription", name, {"labels": {SOUGHT: "yes"}}), found, ("labels",))


def _digest(run: Deployment) -> str:
    """The same words are the same replay, for as long as it is not at its end."""
    options = run.options
    return replay_export.digest_of(
        options.handler, options.since, options.until, options.type, options.entity
    )


def _of(run: Deployment, name: str, labels: dict[str, str]) -> Replay:
    selection = kept.of_time(run, float(labels[FROM]), float(labels[TO]) + 1)
    return Replay(name, f"{labels[BEGAN]}-{name.rpartition('-')[2]}", selection)


def _retained(run: Deployment) -> int:
    """Seconds for which the topic keeps events. Raises DeployError where it keeps none."""
    topic = run.api.find(KINDS["topic"].address(run.place, run.place.called(kept.EVENTS)))
    if topic is None:
        raise DeployError(f"there is no topic {run.place.called(kept.EVENTS)}: --name NAME?")
    retained = topic.get("messageRetentionDuration")
    if retained is None:
        raise DeployError("the topic keeps nothing (RETENTION_DAYS): there is nothing to send again")
    return int(float(retained.removesuffix("s")))


def _check_times(since: float, until: float, now: float, retained: int) -> None:
    """Raise DeployError where the topic doesn't have what is meant any more."""
    if since >= until or since > now:
        raise DeployError(
            f"from {moments.shown(since)} to {moments.shown(until)}: that is no time in the past"
        )
    earliest = now - retained
    if since < earliest:
        raise DeployError(f"the topic has events since {moments.shown(earliest)} only: --from a later time")


def _counted(run: Deployment, found: Replay) -> int:
    """How many are meant, at least: an empty answer proves no end."""
    run.tell(f"Looking until nothing more has come for {found.quiet:.0f} seconds.")
    times: list[float] = []
    with _reading(run, found) as look:
        for batch in look.batches():
            times += [moments.stamped(message.published) for message in _meant(run, found, batch)]
    if times:
        run.tell(
            f"At least {len(times)} events, from {moments.shown(min(times))} to {moments.shown(max(times))}."
        )
    return len(times)


def _reading(run: Deployment, found: Replay) -> AbstractContextManager[Reading]:
    return reading(run.api, run.place, found.subscription, found.quiet, _deadline(run))


def _meant(run: Deployment, found: Replay, batch: Sequence[Pulled]) -> list[Pulled]:
    return [message for message in batch if found.selection.takes(letters.read(run.place, message))]


def _sent(run: Deployment, found: Replay, count: int) -> int:
    """Publish what is meant, and acknowledge it once it has been; gives how many."""
    sent = Counter[str]()
    with progress.shown(run, count, "at least ") as at, _reading(run, found) as look:
        for batch in look.batches():
            _send(run, found, look, _meant(run, found, batch), sent)
            at(sent.total())
            if sent.total() >= count:
                look.quiet = SHORT
    return sent.total()


def _send(run: Deployment, found: Replay, look: Reading, meant: Sequence[Pulled], sent: Counter[str]) -> None:
    given = {"handler": run.options.handler, "replay": found.id}
    parcels = [
        kept.Parcel(message, run.place.called(REPLAY), {**message.attributes, **given}) for message in meant
    ]
    kept.send(run, look, parcels, sent)
