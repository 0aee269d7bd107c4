"""What is kept for somebody to look at: dead letters and rejected bodies, which can be sent again."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from flowhook.deploy import backlog, deployed, exports, letters, messages, moments, pausing, progress
from flowhook.deploy.errors import DeployError
from flowhook.deploy.letters import Letter, Selection
from flowhook.deploy.messages import Pulled
from flowhook.deploy.plan import HANDLERS, REPLAY
from flowhook.deploy.reading import Reading, reading
from flowhook.deploy.resources import CONSUME, PAUSED
from flowhook.deploy.run import Deployment, agreed

EVENTS = "events"


@dataclass(frozen=True)
class Parcel:
    """A letter on its way: to which topic, and with which attributes."""

    message: Pulled
    topic: str
    attributes: dict[str, str]


# What a letter becomes. Raises Stays where it can't be sent.
Address = Callable[[Deployment, Pulled], Parcel]


class Stays(Exception):  # noqa: N818 - no error: the letter waits as before
    """Says why a letter is not sent again."""


def act(run: Deployment, box: str) -> None:
    """Do what is asked for with the subscription `box`: `dead-letters` or `rejected`. Raises DeployError."""
    action = run.options.action
    if action not in ACTIONS:
        raise DeployError(f"{box} {action}: it must be one of {', '.join(ACTIONS)}")
    # What is not understood is told before anything is done.
    selected(run)
    ACTIONS[action](run, box)


def list_all(run: Deployment, box: str) -> None:
    """Show a line of each; nothing is taken away."""
    found, look = looked_at(run, box)
    if run.options.json:
        run.around.show(json.dumps([vars(letter) for letter in found], indent=2))
    elif found:
        run.around.show(letters.table([letters.HEADER, *map(letters.row, found)]))
    run.tell(f"{len(found)} {box}; {_seen(run, box, look)}.")


def show(run: Deployment, box: str) -> None:
    """Show one, with its body only where --body asks for it. Raises DeployError where it isn't there."""
    if not run.options.id:
        raise DeployError(f"{box} show ID: which one? ./deploy.sh {box} list")
    for message in _chosen(run, box):
        run.around.show(json.dumps({"id": message.id, "published": message.published}))
        run.around.show(json.dumps(dict(message.attributes), indent=2, sort_keys=True))
        if run.options.body:
            text = message.data.decode(errors="backslashreplace")
            run.around.show(letters.printable(text, but="\n\t"))
        return
    raise DeployError(f"{run.options.id} was not seen in {run.place.called(box)}: ./deploy.sh {box} list")


def redrive(run: Deployment, box: str) -> None:
    """Send again, each to the handler whose it is, and acknowledge it once it has been published."""
    found, look = looked_at(run, box)
    run.tell(f"{_told(found)}; {_seen(run, box, look)}.")
    if run.options.dry_run or not found:
        run.tell("Nothing has been sent.")
        return
    agreed(run, f"Send {len(found)} {box} again?")
    sent, stay = Counter[str](), Counter[str]()
    with (
        progress.shown(run, len(found)) as at,
        reading(run.api, run.place, run.place.called(box)) as look,
    ):
        for batch in look.batches():
            send(run, look, list(_addressed(run, box, _of(run, batch), stay)), sent)
            at(sent.total())
    for why, count in sorted(stay.items()):
        run.tell(f"{count} stay: {why}")
    if (unseen := len(found) - sent.total() - stay.total()) > 0:
        run.tell(f"{unseen} were not seen again, and stay: run it once more in a minute")
    run.tell(f"Sent again: {', '.join(f'{n} to {who}' for who, n in sorted(sent.items())) or 'none'}.")


def export(run: Deployment, box: str) -> None:
    """Write them into a file, bodies included; nothing is taken away."""
    path = _path(run, box)
    with exports.created(path) as file, reading(run.api, run.place, run.place.called(box)) as look:
        count = sum(exports.write(file, _of(run, batch)) for batch in look.batches())
    run.tell(f"{count} {box} are in {path}, which only you can read; {_seen(run, box, look)}.")


def drop(run: Deployment, box: str) -> None:
    """Take them away, once each is in a file."""
    found, look = looked_at(run, box)
    run.tell(f"{_told(found)}; {_seen(run, box, look)}.")
    if run.options.dry_run or not found:
        run.tell("Nothing has been dropped.")
        return
    agreed(run, f"Export {len(found)} {box}, and drop them?")
    count, path = 0, _path(run, box)
    with exports.created(path) as file, reading(run.api, run.place, run.place.called(box)) as look:
        for batch in look.batches():
            chosen = _of(run, batch)
            count += exports.write(file, chosen)
            look.acknowledge(chosen)
    run.tell(f"{count} {box} are dropped, and in {path}, which only you can read.")


ACTIONS: dict[str, Callable[[Deployment, str], None]] = {
    "list": list_all,
    "show": show,
    "redrive": redrive,
    "export": export,
    "drop": drop,
}


def looked_at(run: Deployment, box: str) -> tuple[list[Letter], Reading]:
    """Those that are meant, the oldest first, and the look that saw them; all are given back."""
    with reading(run.api, run.place, run.place.called(box)) as look:
        found = [letters.read(run.place, m) for batch in look.batches() for m in _of(run, batch)]
    return sorted(found, key=lambda letter: (letter.at, letter.id)), look


def _chosen(run: Deployment, box: str) -> Iterator[Pulled]:
    with reading(run.api, run.place, run.place.called(box)) as look:
        for batch in look.batches():
            yield from _of(run, batch)


def _of(run: Deployment, batch: Sequence[Pulled]) -> list[Pulled]:
    """Those that are meant."""
    selection = selected(run)
    return [message for message in batch if selection.takes(letters.read(run.place, message))]


def selected(run: Deployment) -> Selection:
    """Which letters the options mean. Raises DeployError."""
    options, now = run.options, run.api.clock.now()
    return Selection(
        options.id,
        options.handler,
        options.reason,
        options.entity,
        moments.given(options.since, "--since", now) if options.since else 0.0,
        moments.given(options.until, "--to", now) if options.until else float("inf"),
        deployed.matching(options.type) if options.type else lambda _type: True,
    )


def of_time(run: Deployment, since: float, until: float) -> Selection:
    """Those of the entity and type that the options name, whosever they are, from a time that is settled."""
    return replace(selected(run), id="", handler="", reason="", since=since, until=until)


def _told(found: Sequence[Letter]) -> str:
    """How many of which handler."""
    counts = Counter(letter.handler or "no handler" for letter in found)
    return ", ".join(f"{count} of {who}" for who, count in sorted(counts.items())) or "none is meant"


def _seen(run: Deployment, box: str, look: Reading) -> str:
    """Pub/Sub can't browse, so what was seen need not be all."""
    newer = f", and {look.newer} newer than this command (by the clock here)" if look.newer else ""
    if run.options.emulator:
        return f"{look.seen} seen{newer}"
    about = backlog.measured(run.api, run.place, run.place.called(box)).count
    return f"{look.seen} seen{newer}{f' of about {max(about, look.seen)}' if about is not None else ''}"


# --- sending again ---


def _addressed(run: Deployment, box: str, chosen: Sequence[Pulled], stay: Counter[str]) -> Iterator[Parcel]:
    for message in chosen:
        try:
            if message.attributes.get("handler") == deployed.DOCTOR:
                raise Stays("they are the doctor's, and of no use to anybody")
            yield ADDRESSES[box](run, message)
        except Stays as reason:
            stay[str(reason)] += 1


def _of_dead_letter(run: Deployment, message: Pulled) -> Parcel:
    return _to_handler(run, message, letters.handler_of(run.place, message.attributes))


def _of_rejected(run: Deployment, message: Pulled) -> Parcel:
    """To the handler that rejected it, else to all; what still is no event stays."""
    attributes = deployed.attributes_of(message.data)
    if attributes is None:
        raise Stays("they are no events")
    if handler := run.options.rename or message.attributes.get("handler", ""):
        return _to_handler(run, message, handler)
    return Parcel(message, run.place.called(EVENTS), {**attributes, letters.REDRIVE_OF: message.id})


ADDRESSES: dict[str, Address] = {"dead-letters": _of_dead_letter, "rejected": _of_rejected}


def _to_handler(run: Deployment, message: Pulled, handler: str) -> Parcel:
    """To one handler alone. The ledger knows it as the same event, unless --again says otherwise."""
    handler = run.options.rename or handler
    if why := _unable(run, handler):
        raise Stays(why)
    given = {
        **letters.without_reasons(message.attributes),
        "handler": handler,
        letters.REDRIVE_OF: message.id,
    }
    if run.options.again:
        # The same each time, so that the same letter is never handled twice.
        given["replay"] = f"redrive-{message.id}"
    return Parcel(message, run.place.called(REPLAY), given)


def _unable(run: Deployment, handler: str) -> str:
    """Why a handler can't get anything now; empty where it can."""
    if not handler:
        return "they don't say of which handler they are: --as NAME"
    if run.options.emulator:
        return ""
    known = handlers_of_consume(run)
    if known is not None and handler not in known:
        return f"{run.place.called(CONSUME)} has no handler {handler}: --as NEW sends them to another"
    if any(PAUSED in s.get("labels", {}) for s in _subscriptions(run, handler)):
        return f"{handler} is paused: ./deploy.sh resume {handler}"
    return ""


def handlers_of_consume(run: Deployment) -> list[str] | None:
    """The handlers that are deployed; None where an older deployment doesn't say so."""
    consume = run.state.found.get(("function", run.place.called(CONSUME)), {}).get("serviceConfig", {})
    known: str | None = consume.get("environmentVariables", {}).get(HANDLERS)
    return None if known is None else known.split(",")


def _subscriptions(run: Deployment, handler: str) -> list[dict[str, dict[str, str]]]:
    names = pausing.handlers(run).get(handler, [])
    return [run.state.found["subscription", name] for name in names]


class Source(Protocol):
    """What letters are taken from."""

    def acknowledge(self, done: Sequence[Pulled]) -> None:
        """Have these not come again: they have been published."""


def send(run: Deployment, source: Source, parcels: Sequence[Parcel], sent: Counter[str]) -> None:
    """Publish, then acknowledge, a request's worth at a time."""
    by_id = {parcel.message.id: parcel for parcel in parcels}
    for topic in dict.fromkeys(parcel.topic for parcel in parcels):
        for group in messages.groups([p.message for p in parcels if p.topic == topic]):
            given = [(m.data, by_id[m.id].attributes) for m in group]
            with _bounded(run, len(group)):
                messages.publish(run.api, run.place, topic, given)
                source.acknowledge(group)
            sent.update(attributes.get("handler", "all handlers") for _, attributes in given)


@contextmanager
def _bounded(run: Deployment, count: int) -> Iterator[None]:
    """Say how many may be sent twice, should it end in the middle: published, and not acknowledged."""
    try:
        yield
    except BaseException:
        run.tell(f"Stopped. Nothing is lost; at most {count} have been sent and may be sent once more.")
        raise


# --- files ---


def _path(run: Deployment, box: str) -> Path:
    """Where an export goes."""
    stamp = moments.stamp(run.api.clock.now()).replace(":", "").replace("-", "")
    return run.around.folder / (run.options.output or f"export-{run.place.called(box)}-{stamp}.jsonl")
