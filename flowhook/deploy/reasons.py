"""The catalogue of Google's errors that are temporary, so that the request is worth retrying.

Each row is one such error, with the source where it was seen. An error fits a row by the structured reason
that Google gives, else by its message. One that fits no row is raised at once, unless its HTTP status is
temporary (TRANSIENT).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


@dataclass(frozen=True)
class Reason:
    """A temporary error of Google's.

    `waits_for` says what a retry waits for, as part of a sentence. `status` and `code` are those of the HTTP
    response, `reason` is that of its ErrorInfo, if it has one. `wording` is the message; a name in braces
    stands for a part that varies. The error of a build or a revision comes in no HTTP response, but
    in an operation's error or in a function's state. `source` is where the error was seen.
    """

    name: str
    waits_for: str
    status: int
    code: str
    wording: str
    source: str
    reason: str = ""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A pattern that finds the message in a text; `of_text` joins the text's lines before."""
        parts = re.split(r"\{\w+\}", self.wording)
        return re.compile(".+?".join(re.escape(part) for part in parts), re.IGNORECASE)

    def text(self, **values: str) -> str:
        """Return the message with its parts in braces replaced."""
        return self.wording.format(**values)


# Errors of something new that Google doesn't know everywhere yet: an account, a grant, an API, a metric.
NOT_YET = (
    Reason(
        "account-unknown",
        "a new service account to be known everywhere",
        400,
        "INVALID_ARGUMENT",
        "Service account {email} does not exist.",
        "IAM documentation, consistency; hashicorp/terraform-provider-google#15042",
    ),
    Reason(
        "account-not-found",
        "a new service account to be known everywhere",
        404,
        "NOT_FOUND",
        "Service account {email} was not found",
        "firebase/firebase-tools#10859",
    ),
    Reason(
        "account-inaccessible",
        "a new service account to be known everywhere",
        400,
        "INVALID_ARGUMENT",
        "{account} can not be accessed by IAM. Please ensure it exists. If this is a new resource or recently"
        " had IAM changes, please retry",
        "firebase/extensions#2253",
    ),
    Reason(
        "account-unreadable",
        "a new service account to be known everywhere",
        403,
        "PERMISSION_DENIED",
        "Permission iam.serviceAccounts.get is required to perform this operation on service account"
        " {account}",
        "hashicorp/terraform-provider-google#10227",
    ),
    Reason(
        "api-disabled",
        "an API that has just been enabled",
        403,
        "PERMISSION_DENIED",
        "{service} has not been used in project {number} before or it is disabled.",
        "terraform-google-modules/terraform-google-project-factory#710",
        "SERVICE_DISABLED",
    ),
    Reason(
        "source-bucket-denied",
        "the rights of Cloud Build on the source",
        400,
        "FAILED_PRECONDITION",
        "Access to bucket {bucket} denied.",
        "google-marketing-solutions/marketing-analytics-jumpstart#153",
    ),
    Reason(
        "repository-unreadable",
        "the repository for images",
        400,
        "FAILED_PRECONDITION",
        "Unable to retrieve the repository metadata for {repository}.",
        "firebase/firebase-tools#5588",
    ),
    Reason(
        "build-logs-denied",
        "the rights of the account that builds",
        400,
        "FAILED_PRECONDITION",
        "The service account running this build does not have permission to write logs.",
        "Cloud Build documentation, user-specified service accounts",
    ),
    Reason(
        "image-denied",
        "the rights of the account that builds",
        403,
        "PERMISSION_DENIED",
        'Permission "artifactregistry.repositories.{verb}" denied on resource "{repository}"',
        "firebase/firebase-tools#8431",
    ),
    Reason(
        "image-unreadable",
        "the rights of Cloud Run on the image",
        400,
        "FAILED_PRECONDITION",
        "{agent} must have permission to read the image, {image}.",
        "terraform-google-modules/terraform-docs-samples#606",
    ),
    Reason(
        "secret-denied",
        "the grant on a secret",
        400,
        "FAILED_PRECONDITION",
        "Permission denied on secret: {version} for Revision service account {email}.",
        "terraform-google-modules/terraform-docs-samples#168",
    ),
    Reason(
        "version-denied",
        "the grant on a secret",
        403,
        "PERMISSION_DENIED",
        "Permission 'secretmanager.versions.access' denied for resource '{version}'",
        "google-github-actions/deploy-cloud-functions#407",
    ),
    Reason(
        "agent-denied",
        "the rights of one of Google's own service accounts",
        400,
        "FAILED_PRECONDITION",
        "it may take a few minutes before all necessary permissions are propagated to the Service Agent.",
        "typesense/firestore-typesense-search#134",
    ),
    Reason(
        "metric-unknown",
        "a metric that Monitoring does not know yet",
        404,
        "NOT_FOUND",
        'Cannot find metric(s) that match type = "{metric}". If a metric was created recently, it could take'
        " up to 10 minutes to become available.",
        "hashicorp/terraform-provider-google#11102",
    ),
)

# Errors because of what others do at the same time, or of too many requests.
BUSY = (
    Reason(
        "policy-changed",
        "others who change the same policy",
        409,
        "ABORTED",
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential"
        " backoff.",
        "DataBiosphere/leonardo#737",
    ),
    Reason(
        "operation-queued",
        "an operation on the same function to end",
        409,
        "ABORTED",
        "unable to queue the operation",
        "firebase/firebase-tools#10731",
    ),
    Reason(
        "rate-limited",
        "a quota of requests to be there again",
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric '{metric}'",
        "Service Infrastructure documentation, rate limiting",
        "RATE_LIMIT_EXCEEDED",
    ),
)

CATALOGUE = (*NOT_YET, *BUSY)

# HTTP statuses that are worth retrying, whatever the message: https://google.aip.dev/194.
TRANSIENT = frozenset({429, 500, 502, 503, 504})


def of_error(error: Mapping[str, Any]) -> Reason | None:
    """Return the row that an `error` object of Google's fits, by its reason first; None where none does."""
    details = error.get("details", ())
    given = {detail.get("reason") for detail in details if detail.get("@type") == ERROR_INFO}
    by_reason = (row for row in CATALOGUE if row.reason and row.reason in given)
    return next(by_reason, None) or of_text(str(error.get("message", "")))


def of_text(text: str) -> Reason | None:
    """Return the row whose message is in a text; None where none is.

    The text is an error's message or the output of gcloud.
    """
    return next((row for row in CATALOGUE if row.pattern.search(" ".join(text.split()))), None)
