"""The doctor's event: authentic and valid like any other, and no business of the handlers'.

Its mark is in the body, so that it survives Pub/Sub. The platform's own keys begin with `flows/`.
"""

import json
from datetime import UTC, datetime

from flowhook.envelope import Envelope

KEY = "flowhook/doctor"
# The handler that it goes to, and the only one.
HANDLER = "flowhook.doctor"


def is_canary(event: Envelope) -> bool:
    """Whether it is the doctor's."""
    return event.entity_key == KEY


def body(nonce: str) -> bytes:
    """The doctor's event as it travels; `nonce` tells it from every other one."""
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
