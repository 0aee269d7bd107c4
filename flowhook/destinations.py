"""Where events go: a row for each value of `DELIVERY`."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from flowhook.canary import is_canary
from flowhook.delivery import Deliver, ignore
from flowhook.envelope import Envelope
from flowhook.pubsub.publisher import Publish, to_topic

if TYPE_CHECKING:
    from flowhook.routing import KeepEvent, Router
    from flowhook.settings import Settings

RouterProvider = Callable[[], "Router"]


class Destination(NamedTuple):
    """A kind of delivery. `make` calls the provider only where it runs handlers itself."""

    publishes: bool
    runs_handlers: bool
    make: "Callable[[Settings, Publish, RouterProvider], Deliver]"


def _inline(_settings: "Settings", _publish: Publish, router: RouterProvider) -> Deliver:
    return router().deliver


def _pubsub(settings: "Settings", publish: Publish, _router: RouterProvider) -> Deliver:
    return to_topic(publish, settings.topic)


DESTINATIONS: Mapping[str, Destination] = {
    "inline": Destination(publishes=False, runs_handlers=True, make=_inline),
    "pubsub": Destination(publishes=True, runs_handlers=False, make=_pubsub),
}


def choose(event: Envelope, wants: Callable[[str], bool], deliver: Deliver) -> Deliver:
    """`deliver` for an event of a type that is wanted and for the doctor's; `ignore` for any other."""
    return deliver if wants(event.type) or is_canary(event) else ignore


def router_provider(package: str, settings: "Settings", keep: "KeepEvent") -> RouterProvider:
    """A function that makes the router of the handlers in `package` when it is first called.

    Where nothing calls it, as in `receive` with delivery to Pub/Sub, neither handlers nor models are
    imported: they don't slow down that start, and a broken handler doesn't stop it. Where the settings say
    that this process runs handlers, the router is made at once.

    Making the router raises StartError for handlers that are broken or lack what they need.
    """

    @functools.cache
    def provide() -> "Router":
        from flowhook import assembly  # noqa: PLC0415 - see above

        return assembly.load(package, settings, keep, os.environ)

    if settings.runs_handlers:
        provide()
    return provide
