"""The Firestore database that records which events a handler with `once=True` has handled.

The installation has a database of its own, and only the function that runs handlers may use it.
https://cloud.google.com/firestore/docs/manage-databases
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from flowhook.deploy import source
from flowhook.deploy.declared import Declared
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import FIRESTORE
from flowhook.deploy.options import Options
from flowhook.deploy.resources import Binding, Place, Resource
from flowhook.deploy.rest import Api

ROLE = "roles/datastore.user"
PACKAGE = "google-cloud-firestore"
# The collection that flowhook writes to, and the field with the time from which a document may be deleted.
COLLECTION, EXPIRES = "flowhook-once", "expires"


def is_needed(options: Options, handlers: Iterable[Declared]) -> bool:
    """Return whether a handler is marked `once=True` and LEDGER is not `memory`."""
    return options.ledger != "memory" and any(handler.once for handler in handlers)


def environment(options: Options, place: Place, handlers: Iterable[Declared]) -> dict[str, str]:
    """Return the environment variables about the ledger, for the function that runs handlers."""
    if is_needed(options, handlers):
        return {"LEDGER": f"firestore:{name_of(place)}"}
    return {"LEDGER": options.ledger} if options.ledger == "memory" else {}


def planned(options: Options, place: Place, handlers: Iterable[Declared]) -> Iterator[Resource]:
    """Yield the database, if it is needed.

    Its location can't be changed later, so it is set when the database is created, and never compared.
    """
    if is_needed(options, handlers):
        yield Resource("database", name_of(place), {"type": "FIRESTORE_NATIVE"})


def binding(place: Place, member: str) -> Binding:
    """Return the binding that lets a member use this database, and no other of the project."""
    expression = f'resource.name == "projects/{place.project}/databases/{name_of(place)}"'
    return Binding("project", place.project, ROLE, member, expression)


def check_package(options: Options, handlers: Iterable[Declared], folder: Path) -> None:
    """Raise DeployError where the requirements lack Firestore's library, so that no start would succeed."""
    once = [handler.name for handler in handlers if handler.once]
    if options.ledger != "memory" and once and not source.requires(folder, PACKAGE):
        raise DeployError(
            f"{', '.join(once)}: once=True needs {PACKAGE}: name it, with its version, in {source.WANTED}. "
            f"LEDGER=memory in {options.env_file} does without, and holds within one instance only"
        )


def enable_ttl(api: Api, place: Place) -> None:
    """Have Firestore delete documents that have expired. Doesn't wait until the policy has taken effect."""
    url = (
        f"{FIRESTORE}/projects/{place.project}/databases/{name_of(place)}"
        f"/collectionGroups/{COLLECTION}/fields/{EXPIRES}"
    )
    if not api.get(url).get("ttlConfig"):
        api.request("PATCH", url, {"ttlConfig": {}}, updateMask="ttlConfig")


def name_of(place: Place) -> str:
    """Return the id of the database."""
    return place.called("ledger")
