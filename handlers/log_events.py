"""Writes one readable line per event: what happened to what, and which fields changed. No values."""

import logging

from flowhook import Event, on

log = logging.getLogger(__name__)


@on("*")
def log_event(event: Event) -> None:
    """Log what happened."""
    changed = f": {', '.join(event.changes())}" if event.operation_type == "updated" else ""
    log.info("%s %s%s", event.entity_path, event.operation_type, changed)
