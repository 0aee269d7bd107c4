"""Was anything lost? What was answered, beside what Pub/Sub counted, and what waits or has waited too long.

Both are counted in minutes and told minutes late, so they are compared between two quiet moments, and what
the one has there the other must have within a little more. No data is no 0: then nothing can be said.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowhook.deploy import backlog, counts, deployed, metrics, moments, plan
from flowhook.deploy.counts import HOUR, MINUTE, Counts, Span, full_minute
from flowhook.deploy.errors import DeployError
from flowhook.deploy.rest import Document
from flowhook.deploy.run import Deployment
from flowhook.deploy.surroundings import Row

PUBLISHED, UNDELIVERED = "published", "undelivered"
EVENTS, REJECTED, LETTERS = "events", "rejected", "dead-letters"
# Seconds. A metric of a log may be up to 10 minutes late, those of Pub/Sub 4:
# https://cloud.google.com/logging/docs/logs-based-metrics/troubleshooting
LATE = 10 * MINUTE
# How far apart the same event may be counted: Pub/Sub samples once in a minute, at any second of it.
SKEW = 2 * MINUTE
SHORTEST, LONGEST = 10 * MINUTE, 42 * 24 * HOUR
# Beyond what was answered `undelivered`, these may be in the topic and not among the answers: the events with
# which deployments look for a first push, and calls that were repeated because their answer was lost.
MORE = 20
# How much younger than it may be the oldest event of a subscription is that has begun to lose some.
NEAR = 10 * MINUTE
UNKNOWABLE = (
    "what Flows never sent, or sent and gave up: its page of deliveries has that",
    "whether a handler that said it was done did what it should",
    "an event that was lost while another one was counted twice",
)


@dataclass(frozen=True)
class Measured:
    """Everything that is compared; `answers` are by outcome, `waits` are seconds by subscription."""

    span: Span
    answers: Mapping[str, Counts]
    topics: Mapping[str, Counts]
    waits: Mapping[str, int]


def audit(run: Deployment) -> bool:
    """Show what was found; whether nothing was lost, as far as that can be known. Raises DeployError."""
    measured = _measure(run, *_times(run))
    rows = [*_answered(run, measured), *_kept(run, measured), *_waiting(run, measured)]
    well = all(row.ok for row in rows)
    _show(run, measured.span, rows, well)
    return well


def _times(run: Deployment) -> tuple[Span, Span]:
    """What is asked for, and what has been counted by now. Raises DeployError where too little has been."""
    options, now = run.options, run.api.clock.now()
    start = moments.given(options.since or "24h", "--since", now)
    end = moments.given(options.until, "--to", now) if options.until else now
    since = _counted_since(run)
    if start < since:
        run.tell(f"Answers are counted since {moments.shown(since)} only, so that is where it begins.")
    # The minute in which counting began is not whole.
    counted = Span(full_minute(since) + MINUTE, full_minute(now - LATE))
    asked = Span(max(full_minute(start), counted.start), min(full_minute(end), counted.end))
    if not SHORTEST <= asked.end - asked.start <= LONGEST:
        raise DeployError(
            f"from {moments.shown(asked.start)} to {moments.shown(asked.end)}: it must be 10 minutes to 42 "
            "days, and the last 10 minutes are not measured yet"
        )
    return asked, counted


def _counted_since(run: Deployment) -> float:
    """Since when the metric counts as it does now. Raises DeployError where it isn't there."""
    if ("topic", run.place.called(EVENTS)) not in run.state.found:
        raise DeployError(f"there is no topic {run.place.called(EVENTS)}: nothing is published here")
    metric = run.state.found.get(("metric", metrics.name_of(run.place)))
    if metric is None:
        raise DeployError(f"there is no metric {metrics.name_of(run.place)} yet: ./deploy.sh")
    return moments.stamped(str(metric.get("updateTime", "")))


def _measure(run: Deployment, asked: Span, counted: Span) -> Measured:
    """Ask Cloud Monitoring, and choose two moments at which it was quiet to compare between."""
    api, place = run.api, run.place
    edge = _edge(asked)
    looked = Span(max(counted.start, asked.start - edge), min(counted.end, asked.end + edge))
    answers = counts.answers(api, place, looked)
    topics = {what: counts.of_topic(api, place, what, looked) for what in (EVENTS, REJECTED, LETTERS)}
    waits = counts.longest_waits(api, place, looked)
    compared = _between_quiet_moments(asked, looked, [answers.get(PUBLISHED, Counts()), topics[EVENTS]])
    return Measured(compared, answers, topics, waits)


def _between_quiet_moments(asked: Span, looked: Span, counted: list[Counts]) -> Span:
    """What is asked for, and somewhat more: from and to a moment at which little happened.

    What happens within SKEW of an edge can't be told from what is missing. Where nothing more has been
    counted, it is somewhat less.
    """
    edge, first, last = _edge(asked), looked.start + SKEW, looked.end - SKEW

    def noise(moment: int) -> int:
        return sum(one.within(Span(moment - SKEW, moment + SKEW)) for one in counted)

    starts = range(asked.start, first - MINUTE, -MINUTE) or range(first, first + edge, MINUTE)
    ends = range(asked.end, last + MINUTE, MINUTE) or range(last, last - edge, -MINUTE)
    return Span(min(starts, key=noise), min(ends, key=noise))


def _edge(asked: Span) -> int:
    """How far a quiet moment is looked for."""
    return full_minute(min(HOUR, (asked.end - asked.start) / 4))


def _wider(span: Span) -> Span:
    return Span(span.start - SKEW, span.end + SKEW)


def _missing(some: Counts, others: Counts, span: Span) -> int:
    """How many of the one are not among the others, whatever the lag."""
    return max(0, some.within(span) - others.within(_wider(span)))


def _slack(counted: Counts, span: Span) -> str:
    """Up to which difference nothing can be said: what happened so close to an edge that lag explains it."""
    slack = counted.within(_wider(span)) - counted.within(span)
    return f" (lag explains a difference of up to {slack})" if slack else ""


# --- what was answered -------------------------------------------------------------------------------------


def _answered(run: Deployment, measured: Measured) -> Iterator[Row]:
    answers, topic, span = measured.answers, measured.topics[EVENTS], measured.span
    published = answers.get(PUBLISHED, Counts(is_measured=bool(answers)))
    what = f"answered `{PUBLISHED}`"
    if not answers and not topic.is_measured:
        yield Row(what, False, "no data: nothing came, or nothing was measured. Take a longer time")
    elif not answers:
        yield Row(what, False, _not_in_the_log(run, topic.within(span)))
    elif not topic.is_measured and published.within(_wider(span)):
        yield Row(
            what, False, f"{published.within(span)}, but no data of {run.place.called(EVENTS)}: try later"
        )
    else:
        yield _compared(run, what, published, topic, measured)
    yield from _not_accepted(measured)


def _not_in_the_log(run: Deployment, count: int) -> str:
    return (
        f"no data, though {run.place.called(EVENTS)} has {count}: "
        "is LOG_LEVEL above INFO, or the metric disabled? ./deploy.sh status"
    )


def _compared(run: Deployment, what: str, published: Counts, topic: Counts, measured: Measured) -> Row:
    span, name = measured.span, run.place.called(EVENTS)
    numbers = f"{published.within(span)}; {topic.within(span)} in {name}{_slack(topic, span)}"
    if lost := _missing(published, topic, span):
        return Row(
            what,
            False,
            f"{numbers}: at least {lost} LOST. The log has each with its `messageId` and `event_id`",
        )
    more = _missing(topic, published, span)
    undelivered = measured.answers.get(UNDELIVERED, Counts()).within(_wider(span))
    if more > undelivered + MORE:
        return Row(
            what,
            False,
            f"{numbers}: {more} more than answered. Somebody else publishes, or bodies were sent again, or "
            "the log has not every line (LOG_LEVEL); as many losses could hide behind that",
        )
    return Row(
        what, True, numbers + (f"; {more} more, as after lost answers or a deployment" if more else "")
    )


def _not_accepted(measured: Measured) -> Iterator[Row]:
    """What is no loss: Flows was told so, and sends it again, or you have chosen so."""
    for outcome, counted in sorted(measured.answers.items()):
        if outcome not in (PUBLISHED, *deployed.REFUSED):
            yield Row(f"answered `{outcome}`", True, str(counted.within(measured.span)))


# --- what is kept ------------------------------------------------------------------------------------------


def _kept(run: Deployment, measured: Measured) -> Iterator[Row]:
    """Bodies that are no events must be in the topic for them; what handlers reject is there too."""
    refused = _sum(measured.answers.get(slug, Counts()) for slug in deployed.REFUSED)
    rejected, name = measured.topics[REJECTED], run.place.called(REJECTED)
    count, seen = refused.within(measured.span), f"{rejected.within(measured.span)} in {name}"
    if count and not rejected.is_measured:
        yield Row("bodies that are no events", False, f"{count}, but no data of {name}: try later")
    elif lost := _missing(refused, rejected, measured.span):
        yield Row("bodies that are no events", False, f"{count}; {seen}: at least {lost} LOST")
    else:
        yield Row("bodies that are no events", True, f"{count}; {seen}{_now(run, REJECTED)}")
    letters = measured.topics[LETTERS]
    told = (
        str(letters.within(measured.span)) if letters.is_measured else "no data: none, or none was measured"
    )
    yield Row("dead letters", True, f"{told}{_now(run, LETTERS)}")


def _sum(counted: Iterator[Counts]) -> Counts:
    by_minute: dict[int, int] = {}
    for one in counted:
        for minute, number in one.by_minute.items():
            by_minute[minute] = by_minute.get(minute, 0) + number
    return Counts(by_minute)


def _now(run: Deployment, box: str) -> str:
    """What waits there now."""
    count = backlog.measured(run.api, run.place, run.place.called(box)).count
    return f"; about {count} wait: ./deploy.sh {box} list" if count else ""


# --- what has waited too long ------------------------------------------------------------------------------


def _waiting(run: Deployment, measured: Measured) -> Iterator[Row]:
    """Whether a subscription has dropped what waited in it for as long as it keeps anything."""
    for name, subscription in sorted(run.state.ours("subscription", run.place).items()):
        box = name in (run.place.called(REJECTED), run.place.called(LETTERS))
        if box or plan.is_pushed(run.place, name):
            yield _expired(name, subscription, measured.waits.get(name))


def _expired(name: str, subscription: Document, longest: int | None) -> Row:
    what = f"waited in {name}"
    if longest is None:
        return Row(what, False, "no data: whether any was dropped can't be said")
    kept = backlog.kept_until(subscription, 0.0)
    if longest >= kept - NEAR:
        return Row(what, False, f"{_long(longest)}; after {_long(kept)} events are dropped: some are LOST")
    return Row(what, True, f"{_long(longest)} at most, of {_long(kept)}")


def _long(seconds: float) -> str:
    """A time for people."""
    for unit, name in ((24 * HOUR, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


# --- telling -----------------------------------------------------------------------------------------------


def _show(run: Deployment, span: Span, rows: list[Row], well: bool) -> None:
    if run.options.json:
        findings = [{"what": row.what, "ok": row.ok, "seen": row.seen} for row in rows]
        edges = {"from": moments.stamp(span.start), "to": moments.stamp(span.end)}
        document = {**edges, "ok": well, "findings": findings, "unknowable": UNKNOWABLE}
        run.around.show(json.dumps(document, indent=2))
        return
    run.around.show(f"From {moments.shown(span.start)} to {moments.shown(span.end)}:")
    for row in rows:
        run.around.show(f"{'ok    ' if row.ok else 'WRONG '} {row.what}: {row.seen}")
    run.tell(f"This can't know {'; '.join(UNKNOWABLE)}.")
    run.tell("Nothing was lost, as far as that can be known." if well else "Not all is well, see above.")
