"""The exceptions with which a command of a deployment fails."""

from collections.abc import Mapping
from typing import Any

from flowhook.deploy import reasons
from flowhook.deploy.reasons import Reason


class DeployError(Exception):
    """A failure whose message says what went wrong and what to do next; the command ends with status 1."""


class Refusal(DeployError):  # noqa: N818 - the service has answered, and refused
    """Google answered with 4xx or 5xx, or an operation failed; `error` is the JSON object that says why."""

    def __init__(self, request: str, status: int, error: Mapping[str, Any]) -> None:
        message = error.get("message") or f"status {status}"
        super().__init__(f"{request} failed: {message}")
        self.status = status
        self.error = error
        self.reason: Reason | None = reasons.of_error(error)

    @property
    def waits_for(self) -> str:
        """What a retry has to wait for, as part of a sentence; empty where a retry is of no use."""
        if self.reason:
            return self.reason.waits_for
        return f"Google, whose answer is {self.status}" if self.status in reasons.TRANSIENT else ""

    def has(self, text: str) -> bool:
        """Return whether the error contains a text, in its message or in its details."""
        return text in str(self.error)


class Unanswered(DeployError):  # noqa: N818 - whether the request failed is unknown
    """No answer arrived, so it is unknown whether the request took effect."""

    waits_for = "the connection to Google"
