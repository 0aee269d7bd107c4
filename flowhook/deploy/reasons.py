"""What Google says when something is not so yet, or not at this moment: the catalogue that retrying reads.

Each row is one such answer, with the place where it was seen. What is in no row is an error that stays, and
is told at once. An answer fits by its structured reason where Google gives one, else by its wording.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


@dataclass(frozen=True)
class Reason:
    """One answer; `{…}` in its wording stands for what differs from time to time.

    `status` and `code` are those of the answer over HTTP, `reason` that of its ErrorInfo where it has one.
    A wording of a build or a revision arrives in an operation's error or in a function's state instead.
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
        """Finds the wording in a text, line breaks included."""
        parts = re.split(r"\{\w+\}", self.wording)
        return re.compile(".+?".join(re.escape(part) for part in parts), re.IGNORECASE)

    def text(self, **values: str) -> str:
        """The wording with its gaps filled."""
        return self.wording.format(**values)


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

# Answers that say nothing of what was asked for: https://google.aip.dev/194, and a broken connection.
TRANSIENT = frozenset({429, 500, 502, 503, 504})


def of_error(error: Mapping[str, Any]) -> Reason | None:
    """The row that an answer's `error` document fits, if there is one."""
    details = error.get("details", ())
    given = {detail.get("reason") for detail in details if detail.get("@type") == ERROR_INFO}
    by_reason = (row for row in CATALOGUE if row.reason and row.reason in given)
    return next(by_reason, None) or of_text(str(error.get("message", "")))


def of_text(text: str) -> Reason | None:
    """The row whose wording is in a text: an operation's error, or what gcloud passes on from a build."""
    return next((row for row in CATALOGUE if row.pattern.search(" ".join(text.split()))), None)
