"""From bytes to events: what is JSON, what is an event, what it is called, and what changed."""

import copy
import gc
import json
import pickle
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from flowhook import events, samples
from flowhook.categories import CATEGORIES, Pattern, classify
from flowhook.errors import NotAnEvent, NotJson, Refused
from flowhook.events import Change, CommentEvent, Event
from flowhook.frozen import FrozenDict, FrozenList
from flowhook.testing import make_event

EVENT = json.loads(samples.load("packets.updated"))
COMMENT = json.loads(samples.load("packet_comments.created"))
HALF_AN_EMOJI = rb'"\ud83d"'


def body(document: Any = EVENT, **fields: Any) -> bytes:
    return json.dumps({**document, **fields}).encode()


def with_value(text: bytes) -> bytes:
    """The event with JSON text of a test's own as a property."""
    return body(data={"value": {"properties": {"x": "@"}}}).replace(b'"@"', text)


def value_of(text: bytes) -> Any:
    return events.parse(with_value(text)).properties["x"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"nan",
            b"01",
            b"+1",
            b".5",
            b"1.",
            b"0x1",
            b"1e",
            b"tru",
            b"None",
        ),
        *(
            b"'x'",
            b'"\t"',
            b'"\n"',
            b'"\\x41"',
            b'"\\u12"',
            b"[1,]",
            b'{"a":1,}',
            b"{a:1}",
            b'"\xff"',
            b'"\xed\xa0\x80"',
        ),
        *(b"/**/1", b"1 2", b"", b'"', b'"\\ud83d', b"[" * 50, b"9" * 4301, b"[" * 1000 + b"]" * 1000),
    ],
)
def test_what_rfc_8259_does_not_call_json_is_refused(text: bytes) -> None:
    with pytest.raises(NotJson) as refusal:
        events.parse(with_value(text))
    assert "org-acme" not in refusal.value.detail


@pytest.mark.parametrize(
    "text", [b"", b" ", b"\xef\xbb\xbf", b"\x00", b"{}{}", body() + b"x", body().decode().encode("utf-16")]
)
def test_a_body_that_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(NotJson):
        events.parse(text)


def test_a_byte_order_mark_is_skipped_and_kept_in_the_body() -> None:
    marked = b"\xef\xbb\xbf" + body()
    assert events.parse(marked).body == marked


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9" * 4300, int("9" * 4300)),
        (b"-123456789012345678901234567890", -123456789012345678901234567890),
        (b"1e999", float("inf")),
        (b"[" * 150 + b"]" * 150, json.loads("[" * 150 + "]" * 150)),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\u0000"', "\0"),
    ],
)
def test_unusual_json_is_read_as_the_module_says(text: bytes, value: object) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (HALF_AN_EMOJI, "\ufffd"),
        (rb'"\uDE00"', "\ufffd"),
        (rb'"a\ud83d\ud83d\ude00b"', "a\ufffd😀b"),
        (rb'"\\ud83d\ud83d"', "\\ud83d\ufffd"),
        (rb'"\\\ud83d\n"', "\\\ufffd\n"),
        (rb'{"\ud83d": 1}', {"\ufffd": 1}),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(text: bytes, value: object) -> None:
    assert value_of(text) == value
    assert events.parse(with_value(text)).body == with_value(text)


def test_a_lone_surrogate_hides_no_other_mistake() -> None:
    with pytest.raises(NotJson):
        events.parse(with_value(b"[" + HALF_AN_EMOJI + b",]"))


@pytest.mark.parametrize("name", samples.TYPES)
def test_every_sample_is_an_event_of_its_type(name: str) -> None:
    event = events.parse(samples.load(name))
    assert event.type == name
    assert isinstance(event, CommentEvent) == name.startswith("packet_comments.")
    assert event.event_timestamp.tzinfo is not None


def test_the_guides_fields_have_python_names() -> None:
    event = events.parse(body())
    assert (event.operation_type, event.entity_path, event.entity_id) == (
        "updated",
        "pipelinesPackets/pk-7f3a",
        "pk-7f3a",
    )
    assert (event.entity_key, event.collection_path) == ("flows/pipelinesPackets", "pipelinesPackets")
    assert event.organization_id == "org-acme"
    assert event.data.value is not None
    assert event.data.value.key == "pipelinesPackets/pk-7f3a"
    assert event.data.value.create_time == datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
    assert event.data.old_value is not None
    assert event.data.old_value.properties["status"] == "open"
    assert event.data.update_mask == ("status", "assigneeRef")


def test_an_event_is_frozen() -> None:
    event = events.parse(body())
    for thing in (event, event.data, event.data.value):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(thing, "key", "x")


def test_unknown_fields_are_kept_at_every_level() -> None:
    document = json.loads(body(newField=[1]))
    document["data"]["extra"] = {"a": 1}
    document["data"]["value"]["version"] = 7
    document["data"]["value"]["properties"]["custom"] = {"deep": [None]}
    event = events.parse(json.dumps(document).encode())
    assert event.model_extra == {"newField": [1]}
    assert event.data.model_extra == {"extra": {"a": 1}}
    assert event.data.value is not None
    assert event.data.value.model_extra == {"version": 7}
    assert event.properties["custom"] == {"deep": [None]}


def test_unknown_fields_that_are_named_like_ours_change_nothing() -> None:
    names = (
        "id",
        "type",
        "category",
        "body",
        "_body",
        "changes",
        "properties",
        "model_config",
        "entity_path",
        "__class__",
    )
    event = events.parse(body(**dict.fromkeys(names, "x")))
    assert event.type == "packets.updated"
    assert event.entity_path == "pipelinesPackets/pk-7f3a"
    assert event.model_extra == dict.fromkeys(names, "x")


@pytest.mark.parametrize("data", [{}, {"value": None}, {"value": None, "oldValue": None, "updateMask": None}])
@pytest.mark.parametrize("document", [EVENT, COMMENT])
def test_every_part_of_data_may_be_null_or_absent(document: dict[str, Any], data: dict[str, Any]) -> None:
    event = events.parse(body(document, data=data))
    assert (event.data.value, event.data.old_value, event.data.update_mask) == (None, None, None)
    assert event.changes() == {}
    assert not event.properties


@pytest.mark.parametrize("field", ["key", "properties", "createTime", "updateTime"])
def test_what_a_state_lacks_is_no_reason_to_lose_the_event(field: str) -> None:
    for value in ({}, {field: None}):
        assert events.parse(body(data={"value": value})).data.value is not None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-02T09:15:00.123Z", datetime(2026, 3, 2, 9, 15, 0, 123000, tzinfo=UTC)),
        ("2026-03-02T09:15:00.123456789Z", datetime(2026, 3, 2, 9, 15, 0, 123456, tzinfo=UTC)),
        ("2026-03-02T09:15:00+05:30", datetime(2026, 3, 2, 9, 15, tzinfo=timezone(timedelta(hours=5.5)))),
        ("2026-03-02T09:15:00", datetime(2026, 3, 2, 9, 15, tzinfo=UTC)),
        ("20260302T091500Z", datetime(2026, 3, 2, 9, 15, tzinfo=UTC)),
        ("2026-03-02", datetime(2026, 3, 2, tzinfo=UTC)),
    ],
)
def test_every_iso_8601_timestamp_is_an_aware_datetime(text: str, moment: datetime) -> None:
    assert events.parse(body(eventTimestamp=text)).event_timestamp == moment


@pytest.mark.parametrize(
    "value", [1772442900, "1772442900", "yesterday", "", None, True, [], "2026-02-30T00:00:00Z"]
)
def test_what_is_no_iso_8601_timestamp_is_an_error_with_its_pointer(value: object) -> None:
    with pytest.raises(NotAnEvent) as refusal:
        events.parse(body(eventTimestamp=value))
    assert [error["pointer"] for error in refusal.value.members["errors"]] == ["/eventTimestamp"]


def test_a_million_wrong_fields_are_one_error() -> None:
    with pytest.raises(NotAnEvent) as refusal:
        events.parse(body(data={"updateMask": [1] * 1_000_000}))
    assert len(refusal.value.members["errors"]) == 1


@pytest.mark.parametrize(
    ("paths", "category"),
    [
        (("pipelinesPackets/p", "pipelinesPackets", "flows/pipelinesPackets"), "packets"),
        (("organizations/o/pipelinesPackets/p", "", ""), "packets"),
        (("/pipelinesPackets/p/", "", ""), "packets"),
        (("pipelinesPackets/comments", "", ""), "packets"),
        (("pipelines/pipelinesPackets", "", ""), "pipelines"),
        (("pipelinesPackets/p/comments/c", "", ""), "packet_comments"),
        (("pipelinesPackets/p/comments", "", ""), "packet_comments"),
        (("o/1/pipelinesPackets/p/comments/c", "", ""), "packet_comments"),
        (("entities/e/comments/c", "entities/e/comments", "flows/comments"), "other"),
        (("comments/c", "comments", "flows/comments"), "other"),
        (("pipelinesPackets/p/comments/c/likes/l", "", ""), "other"),
        (("pipelinesPacketsX/p", "", ""), "other"),
        (("Users/u", "", ""), "other"),
        (("", "users", ""), "users"),
        (("x/1", "users", "flows/entities"), "users"),
        (("x/1", "x", "flows/entities"), "entities"),
        (("", "", "users"), "users"),
        (("", "", "flows/comments"), "packet_comments"),
        (("", "", "flows/widgets"), "other"),
        (("", "", ""), "other"),
        (("///", "/", "/"), "other"),
    ],
)
def test_the_last_whole_collection_decides_the_category(paths: tuple[str, str, str], category: str) -> None:
    assert classify(*paths) == category
    document = body(entityPath=paths[0], collectionPath=paths[1], entityKey=paths[2])
    assert events.parse(document).category == category


@pytest.mark.parametrize("name", samples.TYPES)
def test_patterns_select_by_either_half(name: str) -> None:
    category, operation = name.split(".")
    for text in ("*", "*.*", name, f"{category}.*", f"*.{operation}"):
        assert Pattern.parse(text).matches(name)
        assert str(Pattern.parse(text)) in (text, "*")
    others = [f"{c}.*" for c in (*CATEGORIES, "other") if c != category]
    assert not any(Pattern.parse(text).matches(name) for text in others)


def test_changes_are_those_of_the_mask() -> None:
    assert events.parse(body()).changes() == {
        "status": Change("open", "in progress"),
        "assigneeRef": Change("users/us-ada", "users/us-grace"),
    }


@pytest.mark.parametrize("mask", [None, []])
def test_changes_are_found_by_comparison_without_a_mask(mask: object) -> None:
    event = make_event("packets.updated", data={"updateMask": mask}, properties={"new": 1})
    assert event.changes() == {
        "status": Change("open", "in progress"),
        "assigneeRef": Change("users/us-ada", "users/us-grace"),
        "new": Change(None, 1),
    }


OLD = {"status": "open", "address": "unknown", "same": [1], "gone": 1}
NEW = {"status": "won", "address": {"city": "Bern"}, "same": [1], "a.b": 1, "properties": 2}
EVERY = ("status", "address", "a.b", "properties", "gone")


@pytest.mark.parametrize(
    ("mask", "changed"),
    [
        (["status"], ("status",)),
        (["properties.status"], ("status",)),
        (["status", "properties.status", "status.name"], ("status",)),
        (["gone", "status"], ("gone", "status")),
        (["address.city"], ("address",)),
        (["properties.address.city.zip"], ("address",)),
        (["a.b"], ("a.b",)),
        (["properties.a.b"], ("a.b",)),
        (["properties.properties"], ("properties",)),
        (["same"], ()),
        (["same", "updateTime"], ()),
        (["properties"], EVERY),
        (["same", "properties"], EVERY),
        (["updateTime", "nowhere.at.all", "", ".", "properties."], EVERY),
        ([], EVERY),
        (None, EVERY),
    ],
)
def test_every_form_of_a_mask_leads_to_the_properties_that_changed(
    mask: list[str] | None, changed: tuple[str, ...]
) -> None:
    states = {"value": {"properties": NEW}, "oldValue": {"properties": OLD}}
    event = events.parse(body(data={**states, "updateMask": mask}))
    assert event.changes() == {name: (OLD.get(name), NEW.get(name)) for name in changed}
    assert tuple(event.changes()) == changed
    assert [name for name in {**OLD, **NEW} if event.changed(name)] == [
        name for name in {**OLD, **NEW} if name in changed
    ]
    assert event.became("status", "won") is ("status" in changed)
    assert not event.became("status", "open")
    assert not event.became("same", [1])


def test_a_property_that_is_gone_became_nothing() -> None:
    event = events.parse(body(data={"value": {}, "oldValue": {"properties": OLD}, "updateMask": ["gone"]}))
    assert event.became("gone", None)
    assert not event.became("nowhere", None)


def test_what_a_test_overlays_has_changed() -> None:
    event = make_event("packets.updated", properties={"status": "won", "size": 3, "title": "same"})
    assert event.data.update_mask == ("status", "assigneeRef", "size", "title")
    assert event.became("status", "won")
    assert event.changed("size")
    exact = make_event("packets.updated", properties={"size": 3}, data={"updateMask": ["status"]})
    assert tuple(exact.changes()) == ("status",)
    assert make_event("packets.created", properties={"size": 3}).data.update_mask is None


def test_everything_is_new_in_a_created_event_and_gone_in_a_deleted_one() -> None:
    created, deleted = make_event("users.created"), make_event("users.deleted")
    assert created.changes()["role"] == Change(None, "member")
    assert deleted.changes()["role"] == Change("admin", None)
    assert deleted.properties["role"] == "admin"


def test_a_comment_is_typed_as_the_guide_says() -> None:
    event = make_event("packet_comments.created", properties={"replies": [{"content": "Yes"}], "other": 1})
    comment = event.properties
    assert comment.content == "The contract is signed."
    assert comment.replies == [{"content": "Yes"}]
    assert (comment.parent_comment_ref, comment.soft_removed) == (None, False)
    assert comment.created_by == "users/us-ada"
    assert comment.created_at == datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
    assert comment["other"] == 1
    assert event.data.value is not None
    assert event.data.value.properties.content == comment.content
    assert event.entity_comments == ("pipelinesPackets/pk-7f3a/comments/cm-91c2",)


@pytest.mark.parametrize("shape", [None, 7, "x", {"a": 1}, [1], True])
@pytest.mark.parametrize(
    "name", ["replies", "content", "parentCommentRef", "softRemoved", "createdBy", "createdAt"]
)
def test_a_comment_of_another_shape_is_still_a_comment(name: str, shape: object) -> None:
    comment = make_event("packet_comments.updated", properties={name: shape}).properties
    assert comment[name] == shape
    typed = {
        "replies": comment.replies,
        "content": comment.content,
        "parentCommentRef": comment.parent_comment_ref,
        "softRemoved": comment.soft_removed,
        "createdBy": comment.created_by,
        "createdAt": comment.created_at,
    }
    empty: list[object] | None = [] if name == "replies" else None
    assert typed[name] in (shape, empty)


def test_a_comment_that_lacks_everything_is_still_a_comment() -> None:
    document = {key: value for key, value in COMMENT.items() if key != "entityComments"}
    event = events.parse(body(document, data={"value": {"properties": {}}}))
    assert isinstance(event, CommentEvent)
    assert (event.properties.content, event.properties.replies, event.entity_comments) == (None, [], ())


@pytest.mark.parametrize("shape", [None, {}, "x", 1])
def test_entity_comments_of_another_shape_are_none(shape: object) -> None:
    event = events.parse(body(COMMENT, entityComments=shape))
    assert isinstance(event, CommentEvent)
    assert event.entity_comments == ()


def test_the_text_of_an_event_holds_nothing_of_what_is_in_it() -> None:
    event = events.parse(body())
    assert repr(event) == str(event) == f"{event}" == "<Event packets.updated 'pipelinesPackets/pk-7f3a'>"


def test_overrides_are_laid_over_the_sample() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    event = make_event(
        "packets.created", entity_id="p1", eventTimestamp=moment, properties={"title": "T"}, brandNew=1
    )
    assert (event.entity_id, event.event_timestamp, event.properties["title"]) == ("p1", moment, "T")
    assert event.properties["status"] == "open"
    assert event.model_extra == {"brandNew": 1}
    assert make_event("users.deleted", properties={"role": "guest"}).properties["role"] == "guest"


def test_an_event_that_can_not_be_is_not_made() -> None:
    with pytest.raises(NotAnEvent):
        make_event("packets.created", operation_type="renamed")
    with pytest.raises(KeyError):
        make_event("packets.renamed")


def test_events_of_the_same_body_are_equal() -> None:
    one, other = events.parse(body()), events.parse(body())
    assert one.id == other.id
    assert one == other
    assert isinstance(one, Event)


NESTED = {"list": [1, [2], {"a": []}], "object": {"b": {"c": [3]}}, "empty": {}, "none": None}
CHANGES: list[Callable[[Any], object]] = [
    lambda p: p.clear(),
    lambda p: p.update(a=1),
    lambda p: p.pop("list"),
    lambda p: p.popitem(),
    lambda p: p.setdefault("new", 1),
    lambda p: p.__setitem__("list", 1),
    lambda p: p.__delitem__("list"),
    lambda p: p.__ior__({"a": 1}),
    lambda p: p["list"].append(1),
    lambda p: p["list"].clear(),
    lambda p: p["list"].extend([1]),
    lambda p: p["list"].insert(0, 1),
    lambda p: p["list"].pop(),
    lambda p: p["list"].remove(1),
    lambda p: p["list"].reverse(),
    lambda p: p["list"].sort(),
    lambda p: p["list"].__setitem__(0, 1),
    lambda p: p["list"].__delitem__(0),
    lambda p: p["list"].__iadd__([1]),
    lambda p: p["list"].__imul__(2),
    lambda p: p["list"][1].append(1),
    lambda p: p["list"][2].clear(),
    lambda p: p["list"][2]["a"].append(1),
    lambda p: p["object"]["b"]["c"].append(4),
    lambda p: p["empty"].update(a=1),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("event_type", ["packets.updated", "packet_comments.updated"])
def test_nothing_in_an_event_can_be_changed(event_type: str, change: Callable[[Any], object]) -> None:
    event = make_event(event_type, properties=NESTED, extra=NESTED, entityComments=[NESTED])
    before = json.dumps(event.properties)
    assert event.data.value is not None
    assert event.model_extra is not None
    shared = [event.properties, event.data.value.properties, event.model_extra["extra"]]
    if isinstance(event, CommentEvent):
        shared.append(event.entity_comments[0])
    for one in shared:
        with pytest.raises(TypeError, match="change a copy"):
            change(one)
    assert json.dumps(event.properties) == before


def test_every_way_to_change_a_dictionary_or_a_list_is_refused() -> None:
    for kind, plain, reading in (
        (FrozenDict, dict, {"copy", "fromkeys", "get", "items", "keys", "values"}),
        (FrozenList, list, {"copy", "count", "index"}),
    ):
        changing = {name for name in vars(plain) if not name.startswith("__")} - reading
        changing |= {"__setitem__", "__delitem__", "__iadd__", "__imul__", "__ior__"} & set(vars(plain))
        assert changing <= set(vars(kind))


def test_a_copy_is_plain_and_of_whoever_made_it() -> None:
    properties = make_event("packets.updated", properties=NESTED).properties
    for deep in (copy.deepcopy(properties), pickle.loads(pickle.dumps(properties))):
        assert deep == properties
        deep["list"][2]["a"].append(1)
        deep["object"].clear()
    shallow: list[Any] = [copy.copy(properties), dict(properties), {**properties}]
    for one in shallow:
        one["new"] = 1
    listed = [
        copy.copy(properties["list"]),
        properties["list"][:],
        properties["list"] + [1],
        [*properties["list"]],
    ]
    for items in listed:
        items.append(1)
    assert properties["list"] == [1, [2], {"a": []}]
    assert "new" not in properties


def test_a_copy_of_a_comment_is_typed_too() -> None:
    event = make_event("packet_comments.created")
    for copied in (copy.deepcopy(event), pickle.loads(pickle.dumps(event)), event.model_copy(deep=True)):
        assert copied == event
        assert copied.properties.content == "The contract is signed."


@pytest.mark.parametrize("body", [b"{", b"{}", b'"\\ud800"'])
def test_a_refusal_is_gone_once_it_is_answered(body: bytes) -> None:
    """In a cycle it would keep the body until the garbage collector comes, which is seldom."""
    gc.disable()
    try:
        try:
            events.parse(body)
        except Refused as refusal:
            left = weakref.ref(refusal)
        assert left() is None
    finally:
        gc.enable()


def masked(mask: list[str]) -> Event:
    """An update of two properties, of which one changed."""
    states = {"value": {"properties": {"a": 1, "b": 2}}, "oldValue": {"properties": {"a": 0, "b": 2}}}
    return events.parse(body(data={**states, "updateMask": mask}))


def test_of_a_mask_of_millions_no_path_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    monkeypatch.setattr(events, "_named", lambda path, *_: looked_up.append(path))
    event = masked(["x"] * 1_000_000)
    assert event.changed("a")
    assert not event.changed("b")
    assert event.changes() == {"a": Change(0, 1)}
    assert looked_up == []


@pytest.mark.parametrize(("paths", "changed"), [(events.MAX_MASK, False), (events.MAX_MASK + 1, True)])
def test_a_longer_mask_than_is_looked_up_counts_as_none(paths: int, changed: bool) -> None:
    event = masked(["b"] * paths)
    assert event.changed("a") is changed
    assert event.became("a", 1) is changed
    assert ("a" in event.changes()) is changed


def test_to_tell_whether_a_property_changed_no_other_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    event = masked([])
    monkeypatch.setattr(Event, "changes", None)
    assert (event.changed("a"), event.changed("b"), event.changed("c")) == (True, False, False)
    assert (event.became("a", 1), event.became("a", 0), event.became("b", 2)) == (True, False, False)
