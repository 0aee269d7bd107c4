"""From an event to the handlers that want it: marking, finding and running them."""

import asyncio
import importlib
import inspect
import logging
import pkgutil
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from flowhook.categories import Pattern
from flowhook.delivery import Deliver, Outcome
from flowhook.errors import HandlersFailed, Reject, StartError
from flowhook.events import Event

log = logging.getLogger(__name__)

# How many handlers that are written with `def` run at once; a thread is made when it is needed.
MAX_THREADS = 256
MARK = "__flowhook_patterns__"

Function = Callable[[Any], Awaitable[None] | None]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Handler:
    """A function that wants events, with the patterns that say which; named `module.function`."""

    name: str
    patterns: tuple[Pattern, ...]
    function: Function

    def wants(self, event: Event) -> bool:
        """Whether one of the patterns selects this event."""
        return any(pattern.matches(event.type) for pattern in self.patterns)


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


def inline(handlers: tuple[Handler, ...], timeout: float) -> Deliver:
    """Deliver by running every handler that wants the event, all at once, for `timeout` seconds at most.

    `def` runs in a thread, `async def` on the loop. Raises HandlersFailed once all have ended or run out
    of time. A thread can't be stopped: what runs on in it counts no more.
    """
    limiter = CapacityLimiter(MAX_THREADS)

    async def deliver(event: Event) -> Outcome:
        wanting = [handler for handler in handlers if handler.wants(event)]
        errors = await _run(wanting, event, timeout, limiter)
        return _outcome(event, wanting, errors)

    return deliver


async def _run(
    handlers: list[Handler], event: Event, timeout: float, limiter: CapacityLimiter
) -> dict[str, Exception]:
    """Run all, then tell who raised what. What outlives the time is cancelled, and not waited for."""
    tasks = {asyncio.create_task(_call(handler.function, event, limiter)): handler for handler in handlers}
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=timeout)
        for task in late:
            task.cancel()
    errors = {handler.name: _error(task, timeout) for task, handler in tasks.items()}
    # Not by its truth: an exception with a length of 0 is one all the same.
    return {name: error for name, error in errors.items() if error is not None}


async def _call(function: Function, event: Event, limiter: CapacityLimiter) -> Exception | None:
    try:
        if inspect.iscoroutinefunction(function):
            await function(event)
        else:
            result = await to_thread.run_sync(function, event, abandon_on_cancel=True, limiter=limiter)
            if inspect.isawaitable(result):
                await result
    except Exception as error:  # noqa: BLE001 - whatever a handler raises, the others run
        return error
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - sys.exit() must not take the other deliveries along
        failure = RuntimeError(f"the handler raised {type(error).__name__}")
        failure.__cause__ = error
        return failure
    return None


def _error(task: asyncio.Task[Exception | None], timeout: float) -> Exception | None:
    if not task.done():
        return TimeoutError(f"the handler was not done after {timeout:g} s")
    return RuntimeError("the handler cancelled itself") if task.cancelled() else task.result()


def _outcome(event: Event, wanting: list[Handler], errors: dict[str, Exception]) -> Outcome:
    rejected = tuple(name for name, error in errors.items() if isinstance(error, Reject))
    failed = {name: error for name, error in errors.items() if name not in rejected}
    handled = tuple(handler.name for handler in wanting if handler.name not in errors)
    if failed:
        problem = HandlersFailed(tuple(failed), handled, rejected)
        raise problem from ExceptionGroup("handlers failed", list(failed.values()))
    return Outcome(event, "handled", handled, {name: str(errors[name]) for name in rejected})


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
