"""From an event to the handlers that want it: marking, finding and running them."""

import asyncio
import importlib
import inspect
import logging
import pkgutil
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from flowhook import canary
from flowhook.categories import Pattern
from flowhook.delivery import Deliver, Outcome
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, PublishFailed, Reject, StartError, UnknownHandler, caused_by
from flowhook.events import Event

log = logging.getLogger(__name__)

# How many handlers that are written with `def` run at once; a thread is made when it is needed.
MAX_THREADS = 256
MARK = "__flowhook_patterns__"

# Keeps an event for the handler that rejected it, with its reason; tells whether it is kept now.
KeepEvent = Callable[[Envelope, str, str], Awaitable[bool]]
Function = Callable[[Any], Awaitable[None] | None]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Handler:
    """A function that wants events, with the patterns that say which; named `module.function`."""

    name: str
    patterns: tuple[Pattern, ...]
    function: Function

    def wants(self, event_type: str) -> bool:
        """Whether one of the patterns selects this type."""
        return any(pattern.matches(event_type) for pattern in self.patterns)


@dataclass(frozen=True)
class Result:
    """What became of one handler: None is success; `kept` tells of a Reject whether the event is kept."""

    error: Exception | None
    kept: bool = False


def _hand_back(_event: Event) -> None:
    raise Reject("the doctor's event: nothing acts on it")


# Takes the doctor's event, and no other. What it rejects is kept where the doctor finds it.
BUILT_IN = Handler(canary.HANDLER, (Pattern("*", "*"),), _hand_back)


def on(*patterns: str) -> Callable[[F], F]:
    """Mark a function as the handler of the events that a pattern selects; the function stays as it is.

    Raises ValueError for a pattern that can't select anything, TypeError without any.
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError('@on needs the events to handle, e.g. @on("packets.updated")')
    parsed = tuple(map(Pattern.parse, patterns))

    def mark(function: F) -> F:
        setattr(function, MARK, (*parsed, *getattr(function, MARK, ())))
        return function

    return mark


def discover(package: ModuleType) -> tuple[Handler, ...]:
    """Every handler in the modules of `package`, in name order, in a module in the order of definition.

    Raises StartError that names the module and the line where one can't be imported.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(handler for name in names for handler in _handlers(_import(package, name), name))


async def select(event: Envelope, wants: Callable[[str], bool], deliver: Deliver) -> Outcome:
    """Deliver an event of a type that is wanted, or the doctor's; another one is ignored."""
    chosen = wants(event.type) or canary.is_canary(event)
    return await deliver(event) if chosen else Outcome(event, "ignored")


class Router:
    """Runs handlers: every one that wants the event, all at once, for `timeout` seconds at most.

    `def` runs in a thread, `async def` on the loop. A thread can't be stopped: what runs on in it counts no
    more. What a handler rejects is kept by `keep` within the same time.
    """

    def __init__(self, handlers: tuple[Handler, ...], timeout: float, keep: KeepEvent) -> None:
        self._handlers = handlers
        self._timeout = timeout
        self._keep = keep
        self._limiter = CapacityLimiter(MAX_THREADS)

    async def deliver(self, event: Envelope) -> Outcome:
        """Deliver to every handler that wants the event.

        Raises HandlersFailed once all have ended or run out of time, or PublishFailed where all that failed
        is keeping what was rejected.
        """
        return _outcome(event, await self._run(self._wanting(event), event))

    def behind(self, path: str) -> Deliver:
        """Deliver to the one that `path`, `/MODULE.FUNCTION`, names; to all behind `/`.

        Raises UnknownHandler.
        """
        if path == "/":
            return self.deliver
        every = (*self._handlers, BUILT_IN)
        named = next((handler for handler in every if f"/{handler.name}" == path), None)
        if named is None:
            raise UnknownHandler("No handler has the name in the path.")
        return partial(self._deliver_to, named)

    async def _deliver_to(self, handler: Handler, event: Envelope) -> Outcome:
        if handler not in self._wanting(event):
            return Outcome(event, "ignored")
        return _outcome(event, await self._run([handler], event))

    def _wanting(self, event: Envelope) -> list[Handler]:
        candidates = (BUILT_IN,) if canary.is_canary(event) else self._handlers
        return [handler for handler in candidates if handler.wants(event.type)]

    async def _run(self, handlers: list[Handler], envelope: Envelope) -> dict[str, Result]:
        """Run all, then tell what became of each. What outlives the time is cancelled, and not waited for."""
        if not handlers:
            return {}
        event = envelope.open()
        tasks = {asyncio.create_task(self._handle(handler, event)): handler.name for handler in handlers}
        _, late = await asyncio.wait(tasks, timeout=self._timeout)
        for task in late:
            task.cancel()
        return {name: _result(task, self._timeout) for task, name in tasks.items()}

    async def _handle(self, handler: Handler, event: Event) -> Result:
        try:
            await self._call(handler.function, event)
        except Reject as rejection:
            return await self._reject(handler, event, rejection)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the others run
            return Result(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - sys.exit() must not take the other deliveries along
            return Result(caused_by(error, RuntimeError(f"the handler raised {type(error).__name__}")))
        return Result(None)

    async def _call(self, function: Function, event: Event) -> None:
        if inspect.iscoroutinefunction(function):
            await function(event)
            return
        # What a thread's future raises stays in a cycle with it.
        result, error = await to_thread.run_sync(
            _attempt, function, event, abandon_on_cancel=True, limiter=self._limiter
        )
        if error is not None:
            try:
                raise error
            finally:
                del error
        if inspect.isawaitable(result):
            await result

    async def _reject(self, handler: Handler, event: Event, rejection: Reject) -> Result:
        try:
            return Result(rejection, kept=await self._keep(Envelope.of(event), handler.name, str(rejection)))
        except PublishFailed as problem:
            return Result(problem)


def _attempt(function: Function, event: Event) -> tuple[Awaitable[None] | None, BaseException | None]:
    try:
        return function(event), None
    except BaseException as error:  # noqa: BLE001 - raised again on the loop
        return None, error


def _result(task: asyncio.Task[Result], timeout: float) -> Result:
    if not task.done():
        return Result(TimeoutError(f"the handler was not done after {timeout:g} s"))
    return Result(RuntimeError("the handler cancelled itself")) if task.cancelled() else task.result()


def _outcome(event: Envelope, results: dict[str, Result]) -> Outcome:
    # Not by its truth: an exception with a length of 0 is one all the same.
    handled = tuple(name for name, result in results.items() if result.error is None)
    rejected = {name: str(r.error) for name, r in results.items() if isinstance(r.error, Reject)}
    failed = {name: r.error for name, r in results.items() if r.error is not None and name not in rejected}
    unkept = [error for error in failed.values() if isinstance(error, PublishFailed)]
    if unkept and len(unkept) == len(failed):
        try:
            raise unkept[0]
        finally:
            # Its traceback holds this frame.
            del results, failed, unkept
    if failed:
        errors = ExceptionGroup("handlers failed", list(failed.values()))
        raise HandlersFailed(tuple(failed), handled, tuple(rejected)) from errors
    kept = bool(rejected) and all(results[name].kept for name in rejected)
    return Outcome(event, "handled", handled, rejected, kept)


def _import(package: ModuleType, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{package.__name__}.{name}")
    except (Exception, SystemExit) as error:
        where = _where(error)
        raise StartError(
            f"{package.__name__}/{name}.py can't be imported: {type(error).__name__}: {error}{where}"
        ) from error


def _where(error: BaseException) -> str:
    """The last line of code that the error came through, if there is one that a person can mend."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _handlers(module: ModuleType, name: str) -> Iterator[Handler]:
    found: list[Function] = []
    for attribute, value in vars(module).items():
        # Imported from another module or bound to a second name, a handler is still only one.
        own = callable(value) and hasattr(value, MARK) and value.__module__ == module.__name__
        if own and value not in found:
            found.append(value)
            yield Handler(f"{name}.{attribute}", getattr(value, MARK), value)
