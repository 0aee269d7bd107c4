"""A trial finds what is wrong with a handler, says it shortly, and accuses none that is right."""

import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flowhook import Event, Reject, on
from flowhook.testing import Counterexample, TrialError, make_event, trials
from flowhook.testing.effects import differences
from flowhook.testing.memory import Memory
from tests.support import faulty
from tests.support.faulty import world
from tests.support.receiver import ROOT

OBSERVED = {
    faulty.counts_twice: lambda: world.counts,
    faulty.depends_on_an_old_value: lambda: world.status,
    faulty.last_one_wins: lambda: world.status,
    faulty.right_by_itself: lambda: world.status,
}


@pytest.fixture(autouse=True)
def fresh_world() -> Iterator[None]:
    world.clear()
    yield
    world.clear()


def tried(handler: Any, **options: Any) -> Any:
    observe = OBSERVED.get(handler, lambda: world.posts)
    return trials(handler, observe, reset=world.clear, **options)


# Handler, how many events the story has, what is delivered, what is different.
FAULTS = [
    (faulty.counts_twice, 1, ["event 1", "event 1 again"], r"\['packets'\] is 2 instead of 1"),
    (faulty.loses_on_reorder, 2, ["event 2", "event 1"], "was lost"),
    (
        faulty.unsafe_under_a_crash,
        1,
        ["event 1, and the process dies before line .*world.post", "event 1 again"],
        "was lost",
    ),
    (
        faulty.shares_state,
        2,
        ["event 1 and event 2, handled while the first is before line .*title = current"],
        "was lost",
    ),
    (faulty.depends_on_an_old_value, 2, ["event 2", "event 1"], "instead of"),
    (faulty.last_one_wins, 2, ["event 2", "event 1"], "instead of"),
    (
        faulty.shares_state_on_the_loop,
        2,
        ["event 1 and event 2, handled where the first waits"],
        "was lost",
    ),
    (
        faulty.remembers_in_the_process,
        1,
        ["event 1, and the process dies before that is recorded", "event 1 again"],
        "twice",
    ),
]


@pytest.mark.parametrize(
    ("handler", "length", "account", "difference"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_faulty_handler_has_a_counterexample_that_is_as_short_as_can_be(
    handler: Any, length: int, account: list[str], difference: str
) -> None:
    with pytest.raises(Counterexample) as caught:
        tried(handler)
    found = caught.value
    sys.stdout.write(f"{found}\n")
    assert len(found.events) == length
    assert len(found.account) == len(account)
    for words, pattern in zip(found.account, account, strict=True):
        assert re.match(pattern, words)
    assert re.search(difference, found.differences[0].words)
    assert found.differences[0].words in str(found)


@pytest.mark.parametrize("handler", [faulty.right_by_once, faulty.right_by_once_on_the_loop])
def test_a_handler_with_once_passes_but_for_what_once_does_not_promise(handler: Any) -> None:
    passed = tried(handler)
    assert passed.stories == 60
    assert "Not tried: a crash" in str(passed)
    with pytest.raises(Counterexample, match="came twice instead of once"):
        tried(handler, crash=True)


def test_a_handler_that_is_right_by_itself_passes_crashes_and_calls_at_once() -> None:
    assert "Not tried" not in str(tried(faulty.right_by_itself))


def test_a_failure_that_is_swallowed_loses_an_effect() -> None:
    tried(faulty.swallows_a_failure)
    with pytest.raises(Counterexample, match=r"event 1, while the CRM fails\n.*\n  was lost"):
        tried(faulty.swallows_a_failure, faults={"the CRM fails": world.failing})
    assert tried(faulty.right_by_once, faults={"the CRM fails": world.failing}).plans


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_finds_the_same_again(seed: int) -> None:
    told = set()
    for _ in range(2):
        with pytest.raises(Counterexample) as caught:
            tried(faulty.depends_on_an_old_value, seed=seed)
        told.add(str(caught.value))
    assert len(told) == 1
    assert f"seed {seed}" in told.pop()


def test_the_world_and_the_memory_are_as_they_were_afterwards() -> None:
    faulty.remembered.add("from before")
    try:
        tried(faulty.right_by_itself)
        with pytest.raises(Counterexample):
            tried(faulty.remembers_in_the_process)
        assert faulty.remembered == {"from before"}
        assert world.status == {}
    finally:
        faulty.remembered.clear()


def test_stories_are_made_of_the_events_that_are_given() -> None:
    given = [make_event("packets.updated", entity_id=f"p{n}", properties={"status": "won"}) for n in range(3)]
    with pytest.raises(Counterexample) as caught:
        tried(faulty.unsafe_under_a_crash, events=[*given, make_event("users.updated")])
    assert all(event in given for event in caught.value.events)


def test_order_counts_where_it_is_asked_for() -> None:
    assert "in another order" in str(tried(faulty.right_by_once_on_the_loop))
    with pytest.raises(Counterexample, match="came out of order"):
        tried(faulty.right_by_once_on_the_loop, ordered=True)


def test_what_can_not_be_tried_is_said() -> None:
    posts: list[str] = []
    numbers = itertools.count()

    @on("packets.updated")
    def idle(event: Event) -> None:
        pass

    @on("packets.updated")
    def broken(event: Event) -> None:
        raise ValueError("no such thing")

    @on("packets.updated")
    def random(event: Event) -> None:
        posts.append(str(next(numbers)))

    @on("other.*")
    def others(event: Event) -> None:
        pass

    @on("packets.updated")
    def rejecting(event: Event) -> None:
        posts.append(event.id)
        raise Reject("never")

    for handler, words in (
        (idle, "did nothing that is observed"),
        (broken, "no such thing"),
        (random, "does not do the same"),
        (others, "give some"),
    ):
        with pytest.raises(TrialError, match=words):
            trials(handler, lambda: posts)
    with pytest.raises(TrialError, match="mark it"):
        trials(lambda event: None, lambda: posts)
    with pytest.raises(TrialError, match="wants none"):
        trials(idle, lambda: posts, events=[make_event("users.updated")])
    with pytest.raises(Counterexample, match="came twice"):
        trials(rejecting, lambda: posts)


def test_what_can_not_be_put_back_is_said() -> None:
    class Counter:
        count = 0

    @on("packets.created")
    def count(event: Event) -> None:
        Counter.count += 1

    with pytest.raises(TrialError, match="reset"):
        trials(count, lambda: Counter.count)
    with pytest.raises(Counterexample, match="2 instead of 1"):
        trials(count, lambda: Counter.count, reset=lambda: setattr(Counter, "count", 0))


def test_calls_that_wait_for_each_other_are_no_accident_of_the_trial() -> None:
    """A lock that a call holds where it is stopped lets the other wait, and both end."""
    posts: list[str] = []
    guard = threading.Lock()

    @on("packets.created", once=True)
    def locked(event: Event) -> None:
        with guard:
            posts.append(event.entity_path)

    assert trials(locked, lambda: posts, stories=3).calls


@pytest.mark.parametrize(
    ("expected", "actual", "kinds"),
    [
        ([1], [1, 1], ["twice"]),
        ([1, 2], [2], ["lost"]),
        ([], [3], ["unexpected"]),
        ([1, 2], [2, 1], ["order"]),
        ([{"a": 1}], [{"a": 1}], []),
        ({"a": 1}, {"b": 1}, ["lost", "unexpected"]),
        ({"a": 1}, {"a": 2}, ["differs"]),
        ({1}, {2}, ["unexpected", "lost"]),
        (1, 2, ["differs"]),
    ],
)
def test_differences_have_their_kinds(expected: Any, actual: Any, kinds: list[str]) -> None:
    assert sorted(d.kind for d in differences(expected, actual, ordered=True)) == sorted(kinds)


def test_a_crash_forgets_the_module_and_leaves_the_world() -> None:
    memory = Memory(faulty.remembers_in_the_process, lambda: world.posts)
    faulty.remembered.add("1")
    world.posts.append("1")
    memory.forget()
    assert not faulty.remembered
    assert world.posts == ["1"]


def test_the_document_shows_what_a_trial_says() -> None:
    document = (ROOT / "docs" / "trials.md").read_text()
    [block] = re.findall(r"```text\n(.*?)```", document, re.DOTALL)
    [code] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    names: dict[str, Any] = {"__name__": "test_crm_trials"}
    # The handler that is imported at its end is the one of another document.
    exec(compile(code.replace("from handlers import crm\n", ""), "test_crm_trials.py", "exec"), names)
    with pytest.raises(Counterexample) as caught:
        trials(names["tell_crm_at_first"], lambda: names["posts"])
    assert str(caught.value).startswith(block)


def test_importing_trials_costs_no_more_than_a_handler() -> None:
    code = "import sys; from flowhook.testing import trials; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    unwanted = {"pytest", "httpx2", "starlette", "grpc", "hypothesis", "flows_emulator", "flowhook.cli"}
    assert not {*done.stdout.split()} & unwanted
