"""Where `once=True` is remembered: a database of its own, which only whoever runs handlers may use.

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
# What flowhook calls the collection, and the field that says when a document is of no use any more.
COLLECTION, EXPIRES = "flowhook-once", "expires"


def is_needed(options: Options, handlers: Iterable[Declared]) -> bool:
    """Whether a handler runs once, for all instances together."""
    return options.ledger != "memory" and any(handler.once for handler in handlers)


def environment(options: Options, place: Place, handlers: Iterable[Declared]) -> dict[str, str]:
    """What the function that runs handlers is told."""
    if is_needed(options, handlers):
        return {"LEDGER": f"firestore:{name_of(place)}"}
    return {"LEDGER": options.ledger} if options.ledger == "memory" else {}


def planned(options: Options, place: Place, handlers: Iterable[Declared]) -> Iterator[Resource]:
    """The database. Where it lies can't be changed, so that is said once, to whoever creates it."""
    if is_needed(options, handlers):
        yield Resource("database", name_of(place), {"type": "FIRESTORE_NATIVE"})


def binding(place: Place, member: str) -> Binding:
    """The right to use this database and no other of the project."""
    expression = f'resource.name == "projects/{place.project}/databases/{name_of(place)}"'
    return Binding("project", place.project, ROLE, member, expression)


def check_package(options: Options, handlers: Iterable[Declared], folder: Path) -> None:
    """Raise DeployError where what is uploaded can't use the database: its start would fail."""
    once = [handler.name for handler in handlers if handler.once]
    if options.ledger != "memory" and once and not source.requires(folder, PACKAGE):
        raise DeployError(
            f"{', '.join(once)}: once=True needs {PACKAGE}: name it, with its version, in {source.WANTED}. "
            f"LEDGER=memory in {options.env_file} does without, and holds within one instance only"
        )


def enable_ttl(api: Api, place: Place) -> None:
    """Have Firestore delete what is of no use any more; nobody waits until it begins with that."""
    url = (
        f"{FIRESTORE}/projects/{place.project}/databases/{name_of(place)}"
        f"/collectionGroups/{COLLECTION}/fields/{EXPIRES}"
    )
    if not api.get(url).get("ttlConfig"):
        api.request("PATCH", url, {"ttlConfig": {}}, updateMask="ttlConfig")


def name_of(place: Place) -> str:
    """The id of the database."""
    return place.called("ledger")
