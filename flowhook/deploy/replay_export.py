"""Sending a handler again what an export has for it, where the topic has it no more.

All of the file is read and judged before anything is sent, so a mistake in it sends nothing. Beside it is
noted what has been sent, under which id: the same file is not sent twice by mistake, and a replay that was
interrupted goes on with its id, so that a handler with `once=True` runs once for each of its events.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from flowhook.deploy import deployed, exports, journal, kept, letters, messages, moments, progress
from flowhook.deploy.errors import DeployError
from flowhook.deploy.exports import Export
from flowhook.deploy.journal import Journal, Sending
from flowhook.deploy.messages import Pulled
from flowhook.deploy.plan import REPLAY
from flowhook.deploy.run import Deployment, agreed

DIGEST = 12


@dataclass
class Content:
    """What an export has for the handler, from when to when, and why the others are not sent."""

    digest: str = ""
    count: int = 0
    first: float = float("inf")
    last: float = 0.0
    stay: Counter[str] = field(default_factory=Counter)


def replay(run: Deployment) -> None:
    """Send what is meant to the handler again, once somebody says yes. Raises DeployError."""
    path = run.around.folder / run.options.file
    with exports.opened(path) as export, journal.opened(_noted_in(run, path)) as notes:
        sending = notes.last if notes.last and not notes.last.done else _new(run)
        content = _judged(run, export, sending)
        left = _left(run, content, notes, sending)
        if run.options.dry_run or not left:
            run.tell("Nothing has been sent.")
            return
        agreed(run, f"Send {left} events to {run.options.handler} again?")
        _send(run, export, notes, _begun(content, notes, sending), content.count)


def _noted_in(run: Deployment, path: Path) -> Path:
    """Where it is noted what of the file has been sent for these words."""
    options, place = run.options, run.place
    words = (
        *(place.project, place.name, options.handler, options.of),
        *(options.type, options.entity, options.since, options.until),
    )
    return path.with_name(f"{path.name}.replay-{digest_of(*words)}")


def digest_of(*words: str) -> str:
    """Tells the words of a replay from any others: the same ones are the same replay."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:DIGEST]


def _new(run: Deployment) -> Sending:
    """One that begins now: `2h` ago stays where it is, however often this is interrupted."""
    chosen = kept.selected(run)
    return Sending(str(int(run.api.clock.now())), "", chosen.since, chosen.until)


def _judged(run: Deployment, export: Export, sending: Sending) -> Content:
    """What is in the file. Raises DeployError where one line of it is no letter."""
    content = Content()
    try:
        for message in _meant(run, export, sending, content.stay):
            at = moments.stamped(message.published)
            content.count += 1
            content.first, content.last = min(content.first, at), max(content.last, at)
    except DeployError:
        run.tell("Nothing has been sent.")
        raise
    content.digest = export.digest
    if content.count:
        times = f"{moments.shown(content.first)} to {moments.shown(content.last)}"
        run.tell(f"{content.count} events, from {times}.")
    for why, count in sorted(content.stay.items()):
        run.tell(f"{count} are not sent: {why}")
    return content


def _left(run: Deployment, content: Content, notes: Journal, sending: Sending) -> int:
    """How many there are still to send; says what has been sent before."""
    last = notes.last
    if not sending.digest:
        if last and last.digest == content.digest and not run.options.again:
            told = f"All of it was sent to {run.options.handler} before, as replay {last.id}"
            run.tell(f"{told}: --again sends it once more.")
            return 0
        return content.count
    _go_on(run, content, sending)
    if sending.sent == content.count:
        notes.end()
    return content.count - sending.sent


def _begun(content: Content, notes: Journal, sending: Sending) -> Sending:
    """The same, noted where it is a new one; its id tells it from those of other times and contents."""
    if sending.digest:
        return sending
    begun = replace(sending, id=f"{sending.id}-{content.digest[:DIGEST]}", digest=content.digest)
    notes.begin(begun)
    return begun


def _go_on(run: Deployment, content: Content, sending: Sending) -> None:
    """Say where it goes on. Raises DeployError where the file is not what it was."""
    if sending.digest != content.digest:
        raise DeployError(
            f"{run.options.file} has changed since {sending.sent} of its events were sent to"
            f" {run.options.handler}. Bring it back as it was; under another name all of it is sent"
        )
    run.tell(f"It goes on: {sending.sent} have been sent before, as replay {sending.id}.")
    if (doubtful := sending.begun - sending.sent) > 0:
        run.tell(f"At most {doubtful} more may have been sent, and are sent once more.")


def _meant(run: Deployment, export: Export, sending: Sending, stay: Counter[str]) -> Iterator[Pulled]:
    """Those to send, in the file's order, with the attributes of their events; `stay` counts the others."""
    selection = kept.of_time(run, sending.since, sending.until)
    seen = set[bytes]()
    for message in export.letters():
        if why := _not_for_it(run, message, seen):
            stay[why] += 1
        elif (known := deployed.attributes_of(message.data)) is None:
            stay["they are no events"] += 1
        else:
            own = letters.without_reasons(message.attributes)
            event = Pulled("", message.data, {**own, **known}, message.published, message.id)
            if selection.takes(letters.read(run.place, event)):
                yield event
            else:
                stay["they are of another type, entity or time"] += 1


def _not_for_it(run: Deployment, message: Pulled, seen: set[bytes]) -> str:
    """Why a letter is not for the handler; empty where it may be."""
    owner = letters.handler_of(run.place, message.attributes) or _elsewhere(message)
    if owner not in ("", run.options.of or run.options.handler):
        return f"they are of {letters.printable(owner)[: letters.LONGEST]} (--of HANDLER sends another's)"
    # Not the id itself: those of a million letters are to fit into memory.
    number = hashlib.blake2b(message.id.encode(), digest_size=12).digest()
    if number in seen:
        return "they are in the file already"
    seen.add(number)
    return ""


def _elsewhere(message: Pulled) -> str:
    """Whose it is in another installation; its name has no point, that of a handler has one."""
    source = message.attributes.get(f"{letters.SOURCE}Subscription", "")
    return next((unquote(part) for part in source.split("-") if "." in part), "")


def _send(run: Deployment, export: Export, notes: Journal, sending: Sending, total: int) -> None:
    """Publish what is left, and note it, a request's worth at a time."""
    source, sent = _Noted(notes, sending.sent), Counter[str]()
    try:
        with progress.shown(run, total) as at:
            left = islice(_meant(run, export, sending, Counter()), sending.sent, None)
            for group in messages.groups(left):
                export.check_unchanged()
                notes.sending(source.count + len(group))
                kept.send(run, source, [*_parcels(run, group, sending.id)], sent)
                at(source.count)
        notes.end()
    except BaseException:
        run.tell(f"{source.count} of {total} are sent. Run it again with the same words: it goes on.")
        raise
    run.tell(f"{sent.total()} sent to {run.options.handler}, as replay {sending.id}.")


def _parcels(run: Deployment, group: Sequence[Pulled], replay_id: str) -> Iterator[kept.Parcel]:
    for message in group:
        given = {"handler": run.options.handler, "replay": replay_id, letters.REDRIVE_OF: message.id}
        yield kept.Parcel(message, run.place.called(REPLAY), {**message.attributes, **given})


class _Noted:
    """The export as what letters are taken from: nothing is taken away, but what is sent is noted."""

    def __init__(self, notes: Journal, count: int) -> None:
        self._notes = notes
        self.count = count

    def acknowledge(self, done: Sequence[Pulled]) -> None:
        """Note that these have been published."""
        self.count += len(done)
        self._notes.sent(self.count)
