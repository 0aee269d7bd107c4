"""The ledger's store for many instances: a document per handler and event. Only this module knows Firestore.

https://cloud.google.com/firestore/docs/reference/rpc
"""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InternalServerError,
    NotFound,
    RetryError,
    ServiceUnavailable,
)
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, DocumentSnapshot

from flowhook.errors import LedgerUnavailable
from flowhook.once import PATIENCE, Answer, Busy, Claimed, Done, Key

T = TypeVar("T")

COLLECTION = "flowhook-once"
# A TTL policy on this field deletes expired documents within about a day. Only the bill depends on that.
EXPIRES = "expires"
# An idle connection may be lost. It is safe to repeat `create`: the token identifies our own document.
RETRY = AsyncRetry(
    if_exception_type(Aborted, InternalServerError, ServiceUnavailable),
    initial=0.05,
    maximum=0.5,
    timeout=PATIENCE,
)


class Firestore:
    """Documents in a database. Creating one is the claim, because only one caller can.

    Whether a lease or a record has expired is decided by the server's clock alone: by the times when it was
    written and read. So the instances' clocks may differ.
    """

    def __init__(self, project: str, database: str) -> None:
        self._project = project
        self._database = database
        self._client: AsyncClient | None = None

    async def claim(self, key: Key, lease: float, token: str) -> Answer:
        """As a store does."""
        document = self._document(key)
        fields = _fields(key, token, lease)
        try:
            await _call(document.create(fields, retry=RETRY, timeout=PATIENCE), AlreadyExists)
        except AlreadyExists:
            return await self._claim_again(document, fields, token)
        return Claimed(token)

    async def _claim_again(
        self, document: AsyncDocumentReference, fields: dict[str, Any], token: str
    ) -> Answer:
        """Claim a document that was in the store already, if it has expired."""
        found = await _call(document.get(retry=RETRY, timeout=PATIENCE))
        if found.exists and found.get("token") == token:
            # Our own `create` made it, and its answer was lost.
            return Claimed(token)
        if found.exists and not _ended(found):
            return Busy() if found.get("token") else Done()
        try:
            if not found.exists:
                await _call(document.create(fields, retry=RETRY, timeout=PATIENCE), AlreadyExists)
            else:
                unchanged = self._connected().write_option(last_update_time=found.update_time)
                update = document.update(fields, option=unchanged, retry=RETRY, timeout=PATIENCE)
                await _call(update, FailedPrecondition, NotFound)
        except (AlreadyExists, FailedPrecondition, NotFound):
            # Another caller was faster.
            return Busy()
        return Claimed(token)

    async def record(self, key: Key, expiry: float) -> None:
        """As a store does."""
        document = self._document(key)
        await _call(document.set(_fields(key, "", expiry), retry=RETRY, timeout=PATIENCE))

    async def release(self, key: Key, token: str) -> None:
        """As a store does."""
        document = self._document(key)
        found = await _call(document.get(retry=RETRY, timeout=PATIENCE))
        if not found.exists or found.get("token") != token:
            return
        unchanged = self._connected().write_option(last_update_time=found.update_time)
        try:
            delete = document.delete(option=unchanged, retry=RETRY, timeout=PATIENCE)
            await _call(delete, FailedPrecondition, NotFound)
        except (FailedPrecondition, NotFound):
            return

    def _document(self, key: Key) -> AsyncDocumentReference:
        return self._connected().collection(COLLECTION).document(key.digest)

    def _connected(self) -> AsyncClient:
        # Made on first use, because it belongs to the loop that runs then.
        if self._client is None:
            try:
                self._client = AsyncClient(project=self._project, database=self._database)
            except GoogleAuthError as error:
                raise LedgerUnavailable("There are no credentials for Firestore.") from error
        return self._client


def _fields(key: Key, token: str, seconds: float) -> dict[str, Any]:
    """The fields of a claim, or with an empty token of a record; valid for `seconds` after it is written."""
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return {**key._asdict(), "token": token, "seconds": seconds, EXPIRES: expires}


def _ended(found: DocumentSnapshot) -> bool:
    return bool((found.read_time - found.update_time).total_seconds() > found.get("seconds"))


async def _call(answer: Awaitable[T], *expected: type[GoogleAPICallError]) -> T:
    """Await the answer. Raises `expected` errors unchanged, and LedgerUnavailable for all others."""
    try:
        return await answer
    except expected:
        raise
    except (GoogleAPICallError, GoogleAuthError, RetryError) as error:
        raise LedgerUnavailable(f"Firestore did not do it: {type(error).__name__}.") from error
