"""Posts each new packet comment to an incoming webhook of Slack or Google Chat; off without its address.

Set `CHAT_WEBHOOK_URL` to the address that the chat gave you. It holds a secret, so it is never shown.
"""

import json
from http.client import HTTPException

from flowhook import CommentEvent, on, variable

CHAT_WEBHOOK_URL = variable("CHAT_WEBHOOK_URL", default=None, secret=True)
TIMEOUT = 5  # seconds
MAX_TEXT = 2000


class ChatError(Exception):
    """The chat did not take the message; the delivery is retried."""


@on("packet_comments.created")
def notify_chat(event: CommentEvent) -> None:
    """Post who wrote what. Raises ChatError if the chat does not take it."""
    if CHAT_WEBHOOK_URL.value:
        post(CHAT_WEBHOOK_URL.value, message(event))


def message(event: CommentEvent) -> str:
    """The text of the message. `&`, `<` and `>` are escaped, so that a comment can't mention everybody."""
    author = event.properties.created_by or "Somebody"
    packet = event.entity_path.rpartition("/comments/")[0]
    text = f"{author} commented on {packet}: {event.properties.content or ''}"
    shortened = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return shortened.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(url: str, text: str) -> None:
    """Post to an incoming webhook. Raises ChatError, which never holds the address."""
    # Imported here, so that without a chat no instance waits for it when it starts.
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    if not url.startswith(("https://", "http://")):
        raise ChatError("CHAT_WEBHOOK_URL is not an address that begins with https://")
    body = json.dumps({"text": text}).encode()
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    try:
        request = urllib.request.Request(url, body, headers)
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise ChatError(f"the chat answered {error.code}") from None
    except (OSError, ValueError, HTTPException) as error:
        raise ChatError(f"the chat can't be reached: {type(error).__name__}") from None
