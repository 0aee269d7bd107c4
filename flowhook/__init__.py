"""flowhook: a webhook receiver for Flows. This is what the author of a handler imports."""

from flowhook.errors import Reject
from flowhook.events import Change, CommentEvent, Event
from flowhook.routing import on

__all__ = ["Change", "CommentEvent", "Event", "Reject", "on"]
