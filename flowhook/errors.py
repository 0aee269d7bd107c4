"""What can go wrong. A type says who must act; a `Problem` owns the status it is answered with."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

E = TypeVar("E", bound=Exception)


class FlowhookError(Exception):
    """The root of every error that flowhook raises itself."""


class StartError(FlowhookError):
    """A mistake in the settings or in a handler module: whoever deploys must mend it."""


class Reject(FlowhookError):  # noqa: N818 - an instruction that a handler gives, read as a verb
    """Raised by a handler for an event that it will never be able to handle: it is not retried."""


class MissingVariable(FlowhookError):  # noqa: N818 - says what is the matter
    """A variable that a handler declares has no value."""


class HandlerStuck(FlowhookError):  # noqa: N818 - says what is the matter with it
    """A handler that isn't called, because too many calls of handlers run on after their timeout."""


class Problem(FlowhookError):  # noqa: N818 - the RFC's word
    """A delivery that is not answered 2xx. RFC 9457 calls the answer a problem and names its members.

    `detail` is shown to the caller, so it never holds a secret or a piece of the body. `members` are shown
    too, beside the standard ones. `noted` are fields and `remark` a sentence for the log only.
    """

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}
    # Whether it is raised before the request is authenticated, so that anybody can cause it without limit.
    unproven = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members: Mapping[str, Any] = {}
        self.noted: Mapping[str, Any] = {}
        self.remark = ""

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The members of RFC 9457; `instance` is the id of the event, where there is one."""
        return {
            "type": f"urn:flowhook:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **({"instance": instance} if instance else {}),
            **self.members,
        }


class MethodNotAllowed(Problem):
    """Not a POST: whoever configured the sender must act."""

    status = 405
    slug = "method-not-allowed"
    title = "Only POST is answered here"
    unproven = True
    headers: ClassVar[Mapping[str, str]] = {"Allow": "POST"}


class BodyTooLarge(Problem):
    """More bytes than `MAX_BODY_BYTES`: whoever deploys may raise it."""

    status = 413
    slug = "body-too-large"
    title = "The body is too large"
    unproven = True


class Incomplete(Problem):
    """The sender disconnected before the body was complete: nobody gets this answer, the log has it."""

    status = 400
    slug = "incomplete-body"
    title = "The body did not arrive whole"
    unproven = True


class NoSecret(Problem):
    """No secret can be trusted at present: whoever deploys must act, and the sender must deliver again."""

    status = 503
    slug = "no-secret"
    title = "No secret can be trusted at present"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}
    unproven = True

    def __init__(self) -> None:
        super().__init__("The secret can't be read now, so nothing can be found authentic.")
        self.remark = "See the lines about the secret file (WEBHOOK_SECRET_FILE)."


class AuthenticationFailed(Problem):
    """No proof of an accepted secret. The answer is the same for every cause.

    RFC 9110 (11.6.1) asks for a challenge in every 401.
    """

    status = 401
    slug = "unauthentic"
    title = "The request is not authentic"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="flowhook"'}
    unproven = True

    def __init__(self, tried: Sequence[str] = ()) -> None:
        super().__init__("The request does not prove that it comes from a sender who is accepted here.")
        self.noted = {"headers_tried": list(tried)}


class Refused(Problem):
    """An authentic body that is no event; sending it again doesn't help.

    It is stored in `REJECTED_TOPIC`, where there is one, before it is answered: whoever reads that topic must
    act.
    """

    kept = False


class UnsupportedMediaType(Refused):
    """The content type is not JSON."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body is not announced as JSON"


class NotJson(Refused):
    """The body is not JSON by RFC 8259."""

    status = 400
    slug = "not-json"
    title = "The body is not JSON"


class NotAnEvent(Refused):
    """The body is JSON, yet not an event of the platform.

    `errors` holds a JSON pointer (RFC 6901) and a detail for each field at fault.
    """

    status = 422
    slug = "not-an-event"
    title = "The body is not an event"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("The body is JSON, but some fields are missing or of the wrong type.")
        self.members = self.noted = {"errors": list(errors)}


class NotAPush(Refused):
    """What `consume` received is not a Pub/Sub push delivery."""

    status = 400
    slug = "not-a-push"
    title = "The body is not a Pub/Sub push delivery"


class Overloaded(Problem):
    """Other bodies take all the memory that is granted: the sender must deliver again."""

    status = 503
    slug = "overloaded"
    title = "There is no room for the event"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class UnknownHandler(Problem):
    """No handler has the name that a subscription pushes to: whoever deploys must act."""

    status = 404
    slug = "unknown-handler"
    title = "There is no such handler"


class PublishFailed(Problem):
    """Not acknowledged by Pub/Sub: the sender must deliver again. `remark` says how to mend the cause."""

    status = 503
    slug = "undelivered"
    title = "The event could not be handed on"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}

    def __init__(self, detail: str, remark: str = "", **noted: str) -> None:
        super().__init__(detail)
        self.remark = remark
        self.noted = noted


class LedgerUnavailable(Problem):
    """The ledger of `once=True` is out of reach: the event isn't handled, and must be delivered again."""

    status = 503
    slug = "ledger-unavailable"
    title = "It can't be told whether the event has been handled"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class InProgress(Problem):
    """Another delivery of the same event is being handled: this one must be delivered again later."""

    status = 503
    slug = "in-progress"
    title = "The event is being handled already"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class HandlersFailed(Problem):
    """At least one handler raised or ran out of time; every other matching one has run.

    Raised from an `ExceptionGroup` of what the handlers raised.
    """

    status = 500
    slug = "handler-failed"
    title = "A handler failed"

    def __init__(
        self, failed: Sequence[str], handled: Sequence[str] = (), rejected: Sequence[str] = ()
    ) -> None:
        super().__init__(f"These handlers failed: {', '.join(failed)}.")
        self.members = {"failed": list(failed)}
        self.noted = {"failed": list(failed), "handlers": list(handled), "rejected": list(rejected)}


class Internal(Problem):
    """A defect in flowhook itself. The log has the traceback, the answer doesn't."""

    status = 500
    slug = "internal-error"
    title = "flowhook failed"


def caused_by(cause: BaseException, failure: E) -> E:
    """Return `failure` with this cause.

    It is for `except` blocks: the cause's traceback refers to the frame that caught it, so a local variable
    that refers to `failure` there would make a cycle.
    """
    failure.__cause__ = cause
    return failure
