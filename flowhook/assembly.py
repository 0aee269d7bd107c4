"""Puts together what runs handlers: finds them, checks that they have what they need, opens their ledger."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType

from flowhook import once
from flowhook.errors import StartError
from flowhook.handler import MAX_INLINE_TIMEOUT, Handler
from flowhook.routing import KeepEvent, Router
from flowhook.settings import NAMES, Settings

log = logging.getLogger(__name__)


def provider(
    package: ModuleType, settings: Settings, keep: KeepEvent, environment: Mapping[str, str]
) -> Callable[[], Router]:
    """A function that makes the router of the handlers in `package` when it is first called.

    Where nothing calls it, as in `receive` with delivery to Pub/Sub, no handler is imported: what one imports
    costs no start there, and a broken one stops none. For `consume` it is made at once.

    Raises StartError, whenever it is made, for handlers that are broken or lack what they need.
    """

    @functools.cache
    def provide() -> Router:
        # It loads the event models, to compare them with the handlers' annotations.
        from flowhook.discovery import discover  # noqa: PLC0415

        handlers = discover(package)
        mistakes = [*_variable_mistakes(handlers, environment), *_timeout_mistakes(handlers, settings)]
        if mistakes:
            raise StartError("\n".join(mistakes))
        _tell_who_is_off(handlers, environment)
        return Router(handlers, settings.delivery_timeout, keep, _ledger(handlers, settings, environment))

    if environment.get("FUNCTION_TARGET") == "consume":
        provide()
    return provide


def _variable_mistakes(handlers: Iterable[Handler], environment: Mapping[str, str]) -> Iterator[str]:
    """All that is missing or wrong at once, a line for each handler and variable."""
    for handler in handlers:
        for variable in handler.variables:
            mistake = variable.name_mistake(NAMES) or variable.value_mistake(environment)
            if mistake:
                yield f"{handler.name}: {mistake}"


def _timeout_mistakes(handlers: Iterable[Handler], settings: Settings) -> Iterator[str]:
    for handler in handlers:
        if settings.delivery == "inline" and (handler.timeout or 0) > MAX_INLINE_TIMEOUT:
            yield (
                f"{handler.name}: timeout={handler.timeout:g} is more than the sender's request has: with "
                f"DELIVERY=inline it is {MAX_INLINE_TIMEOUT} seconds at most"
            )


def _tell_who_is_off(handlers: Iterable[Handler], environment: Mapping[str, str]) -> None:
    for handler in handlers:
        missing = handler.missing(environment)
        if missing:
            log.info("%s is off: %s is not set", handler.name, missing)


def _ledger(
    handlers: Iterable[Handler], settings: Settings, environment: Mapping[str, str]
) -> once.Ledger | None:
    names = [handler.name for handler in handlers if handler.once]
    if not names:
        return None
    # The commands for this machine set it; a cloud that runs one instance today may run two tomorrow.
    if settings.ledger == "memory" and (not environment.get("LEDGER") or environment.get("K_SERVICE")):
        log.warning(
            "%s: once=True holds within one instance until its end, for LEDGER is memory; with "
            "LEDGER=firestore it holds for all",
            ", ".join(names),
        )
    return once.Ledger(once.store(settings.ledger, settings.project))
