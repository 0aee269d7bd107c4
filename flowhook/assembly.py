"""Puts together what runs handlers: finds them, checks that they have what they need, opens their ledger."""

import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping

from flowhook import once
from flowhook.destinations import DESTINATIONS
from flowhook.discovery import discover
from flowhook.errors import StartError
from flowhook.handler import MAX_INLINE_TIMEOUT, Handler
from flowhook.routing import KeepEvent, Router
from flowhook.settings import NAMES, Settings

log = logging.getLogger(__name__)


def load(package: str, settings: Settings, keep: KeepEvent, environment: Mapping[str, str]) -> Router:
    """The router of the handlers in the modules of `package`.

    Raises StartError for handlers that are broken or lack what they need in `environment`.
    """
    handlers = discover(importlib.import_module(package))
    mistakes = [*_variable_mistakes(handlers, environment), *_timeout_mistakes(handlers, settings)]
    if mistakes:
        raise StartError("\n".join(mistakes))
    _tell_who_is_off(handlers, environment)
    return Router(handlers, settings.delivery_timeout, keep, _ledger(handlers, settings, environment))


def _variable_mistakes(handlers: Iterable[Handler], environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that is missing or wrong, and each handler that needs it."""
    for handler in handlers:
        for variable in handler.variables:
            mistake = variable.name_mistake(NAMES) or variable.value_mistake(environment)
            if mistake:
                yield f"{handler.name}: {mistake}"


def _timeout_mistakes(handlers: Iterable[Handler], settings: Settings) -> Iterator[str]:
    for handler in handlers:
        if DESTINATIONS[settings.delivery].runs_handlers and (handler.timeout or 0) > MAX_INLINE_TIMEOUT:
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
    # The commands for this machine set LEDGER, so nobody is warned there. A deployed function always warns:
    # it may run several instances.
    if settings.ledger == "memory" and (not environment.get("LEDGER") or environment.get("K_SERVICE")):
        log.warning(
            "%s: once=True holds within one instance until its end, for LEDGER is memory; with "
            "LEDGER=firestore it holds for all",
            ", ".join(names),
        )
    return once.Ledger(once.store(settings.ledger, settings.project))
