"""Takes every event, and writes which into the log."""

import logging

from flowhook import Event, on

log = logging.getLogger(__name__)


@on("*")
def record(event: Event) -> None:
    """Write which event it is."""
    log.info("%s %s", event.entity_path, event.operation_type)
