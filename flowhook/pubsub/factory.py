"""The parts that need Google Cloud's libraries, made only where the settings ask for them.

Importing them takes a third of a second of a start, which inline delivery shouldn't have to wait for.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from flowhook.errors import PublishFailed
from flowhook.pubsub.messages import Message
from flowhook.pubsub.publisher import Publish, Publisher, Service

if TYPE_CHECKING:
    from flowhook.settings import Settings

Verify = Callable[[Mapping[bytes, bytes]], Awaitable[None]]


def publisher(settings: "Settings") -> Publish:
    """What publishes to the project's topics."""
    if not settings.publishes:
        return _nowhere
    return Publisher(_service(settings), settings.delivery_timeout).publish


def _service(settings: "Settings") -> Service:
    from flowhook.pubsub.client import PubSub  # noqa: PLC0415 - see the module's docstring

    if settings.emulator:
        return PubSub(settings.project, settings.emulator)
    from flowhook.pubsub import credentials  # noqa: PLC0415 - the same

    return PubSub(settings.project, find_tokens=credentials.Finder().find)


def verifier(settings: "Settings") -> Verify:
    """What checks the token of a push. Without `PUSH_AUDIENCE`, IAM has admitted only Pub/Sub."""
    if not settings.push_audience:
        return _let_in
    from flowhook.pubsub.push_auth import Verifier  # noqa: PLC0415 - see the module's docstring

    return Verifier(settings.push_audience, settings.push_service_account).verify


async def _nowhere(_topic: str, _message: Message) -> str:
    raise PublishFailed("Nothing is published with these settings.")


async def _let_in(_headers: Mapping[bytes, bytes]) -> None:
    return
