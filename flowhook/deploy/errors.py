"""What ends a deployment."""

from collections.abc import Mapping
from typing import Any

from flowhook.deploy import reasons
from flowhook.deploy.reasons import Reason


class DeployError(Exception):
    """Says what went wrong and what to do next; the command ends with status 1."""


class Refusal(DeployError):  # noqa: N818 - what it is: the service has answered, with a no
    """An answer of 4xx or 5xx, or an operation that failed: `error` is Google's document."""

    def __init__(self, request: str, status: int, error: Mapping[str, Any]) -> None:
        message = error.get("message") or f"status {status}"
        super().__init__(f"{request} failed: {message}")
        self.status = status
        self.error = error
        self.reason: Reason | None = reasons.of_error(error)

    @property
    def waits_for(self) -> str:
        """What will let it succeed soon; empty where nothing will."""
        if self.reason:
            return self.reason.waits_for
        return f"Google, whose answer is {self.status}" if self.status in reasons.TRANSIENT else ""

    def has(self, text: str) -> bool:
        """Whether the answer holds a text, in its message or in its details."""
        return text in str(self.error)


class Unanswered(DeployError):  # noqa: N818 - it says that there was no answer, which is no verdict
    """No answer came: what was asked for may have been done or not."""

    waits_for = "the connection to Google"
