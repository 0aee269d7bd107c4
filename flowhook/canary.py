"""The doctor's event: authentic and valid like any other, but the user's handlers don't get it.

Its entity key marks it, which is in the body and so passes through Pub/Sub unchanged. The platform's own keys
begin with `flows/`.
"""

import json
from datetime import UTC, datetime

from flowhook.envelope import Envelope

KEY = "flowhook/doctor"
# The only handler that it is delivered to.
HANDLER = "flowhook.doctor"


def is_canary(event: Envelope) -> bool:
    """Whether this is the doctor's event."""
    return event.entity_key == KEY


def body(nonce: str) -> bytes:
    """The body of a doctor's event; `nonce` distinguishes it from every other one."""
    now = datetime.now(UTC).isoformat()
    state = {"key": f"doctors/{nonce}", "properties": {}, "createTime": now, "updateTime": now}
    document = {
        "eventTimestamp": now,
        "operationType": "created",
        "entityPath": f"doctors/{nonce}",
        "entityId": nonce,
        "entityKey": KEY,
        "collectionPath": "doctors",
        "organizationId": "flowhook",
        "data": {"value": state, "oldValue": None, "updateMask": None},
    }
    return json.dumps(document).encode()
