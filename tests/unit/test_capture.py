"""What is captured says nothing of what was: every original is searched for, and what must stay does."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flowhook import events, samples
from flowhook.categories import TYPES
from flowhook.cli import main
from flowhook.testing import captured, make_event
from flowhook.testing.lacking import Lacking, known_names, mask_form
from flowhook.testing.masking import Choice, Masks, is_vocabulary, texts
from flows_emulator import organization

KEY = b"k" * 32
CHOICE = Choice()


def masks(**options: Any) -> Masks:
    return Masks(KEY, known_names(), options.pop("choice", CHOICE), **options)


def living(count: int) -> list[dict[str, Any]]:
    """What happens in the emulator's organization."""
    random, now = Random(19), datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    entities = organization.seed(random, now)
    found = []
    for _ in range(count):
        now += timedelta(seconds=random.randint(1, 5_000), milliseconds=random.randint(0, 999))
        event = organization.propose(entities, organization.choose(entities, TYPES, random), random, now)
        entities = organization.fold(entities, event)
        found.append(event)
    return found


def write(path: Path, documents: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
    return path


def test_nothing_of_a_thousand_events_is_found_in_what_is_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals = living(1_000)
    export = write(tmp_path / "export.jsonl", originals)
    report = tmp_path / "report.txt"
    with chdir(tmp_path):
        assert main(["capture", "--export", str(export), "--report", str(report)]) == 0
    written = (tmp_path / "tests" / "captured" / "events.jsonl").read_text()
    shown = capsys.readouterr().out + report.read_text()
    known = known_names()
    said = {text for event in originals for text in texts(event) if not is_vocabulary(text, known)}
    assert len(said) > 1_500
    tokens = {text for line in written.splitlines() for text in texts(json.loads(line))}
    assert [text for text in said if text in tokens] == []
    # Inside of others too, but for what is so short that chance finds it.
    encoded = written.encode()
    assert [text for text in said if len(text) > 4 and text.encode() in encoded] == []
    words = {word for text in said for word in re.findall(r"[^\W\d_]{6,}", text) if "/" not in text}
    assert {"Lovelace", "Contoso", "Negotiation", "kümmert"} < words
    assert [word for word in words if word.encode() in encoded] == []
    assert [text for text in said if len(text) > 4 and text in shown] == []


def shape(value: Any) -> Any:
    """Types and lengths, and the names that are known."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return (type(value), len(value)) if isinstance(value, str) else value


def test_structure_lengths_and_relations_stay() -> None:
    originals = living(300)
    made = masks()
    masked = [made.event(event) for event in originals]
    assert [shape(event) for event in masked] == [shape(event) for event in originals]
    before, after = (
        [events.parse(json.dumps(event).encode()) for event in told] for told in (originals, masked)
    )
    assert [event.type for event in after] == [event.type for event in before]
    assert [[*event.changes()] for event in after] == [[*event.changes()] for event in before]
    # Moments move together, and the same entity is the same wherever it is named.
    moved = {old.event_timestamp - new.event_timestamp for old, new in zip(before, after, strict=True)}
    assert len(moved) == 1
    pairs = {(old.entity_path, new.entity_path) for old, new in zip(before, after, strict=True)}
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    for event in after:
        assert event.entity_path == f"{event.collection_path}/{event.entity_id}"
        assert event.data.value is None or event.data.value.key == event.entity_path


def test_a_pseudonym_needs_the_key() -> None:
    assert masks().text("Contoso") == masks().text("Contoso") != "Contoso"
    other = Masks(b"o" * 32, known_names(), CHOICE)
    assert other.text("Contoso") != masks().text("Contoso")
    assert other.text("2026-03-02") != masks().text("2026-03-02")


@pytest.mark.parametrize(
    ("original", "form"),
    [
        ("Ada Lovelace", r"[A-Z][a-z]{2} [A-Z][a-z]{7}"),
        ("ada@example.com", r"[a-z]{3}@[a-z]{7}\.[a-z]{3}"),
        ("https://contoso.example/a", r"https://[a-z]{7}\.[a-z]{7}/[a-z]"),
        (
            "pipelinesPackets/pk-7f3a/comments/cm-1",
            r"pipelinesPackets/[a-z]{2}-\d[a-z]\d[a-z]/comments/[a-z]{2}-\d",
        ),
        ("2026-03-02T10:42:30.250Z", r"20[12]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.250Z"),
        ("2026-03-02T10:42+02:00", r"20[12]\d-\d\d-\d\dT\d\d:\d\d\+02:00"),
        ("2026-03-02", r"20[12]\d-\d\d-\d\d"),
        ("2026-99-99", r"\d{4}-\d\d-\d\d"),
        ("0001-01-01T00:00:00Z", r"\d{4}-\d\d-\d\d[A-Z]\d\d:\d\d:\d\d[A-Z]"),
        ("Đorđe 🎉", r"\w{5} ."),
        ("…", "."),
        ("---", "[a-z]{3}"),
        ("\ud83d", "."),
        ("", ""),
        ("x" * 100_000, r"[a-z]{100000}"),
        ("/" * 1_000, r"[a-z]{1000}"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_a_text_keeps_its_shape(original: str, form: str) -> None:
    masked = masks().text(original)
    assert re.fullmatch(form, masked)
    assert masked != original or not original


def test_no_two_texts_share_a_pseudonym_however_short_they_are() -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    made = masks(taken=letters)
    found = [made.text(letter) for letter in letters]
    assert len({*found}) == 26
    assert not {*found} & {*letters}
    assert made.longer


def test_unknown_names_are_somebodys_words() -> None:
    document = json.loads(samples.load("packets.updated"))
    document["data"]["value"]["properties"]["Umsatz Contoso"] = {"geheim": ["Contoso", 12, 3.5, True, None]}
    document["data"]["updateMask"] = ["properties.Umsatz Contoso.geheim", "status", "properties"]
    document["region"] = "Contoso"
    document["Contoso 1"] = 1
    masked = masks().event(document)
    assert "ontoso" not in json.dumps(masked)
    assert "geheim" not in json.dumps(masked)
    assert masked["region"]
    path, status, whole = masked["data"]["updateMask"]
    _, name, inner = path.split(".")
    assert (status, whole) == ("status", "properties")
    text, integer, real, *rest = masked["data"]["value"]["properties"][name][inner]
    assert (len(text), len(str(integer)), len(str(real)), rest) == (7, 2, 3, [True, None])
    keep = Choice(names=["Umsatz Contoso"], values=["status"], numbers=True)
    kept = masks(choice=keep).event(document)["data"]["value"]["properties"]
    assert kept["status"] == document["data"]["value"]["properties"]["status"]
    assert next(iter(kept["Umsatz Contoso"].values()))[1:] == [12, 3.5, True, None]


def test_what_is_kept_is_shown_and_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = write(tmp_path / "export.jsonl", living(50))
    command = ["capture", "--export", str(export), "--keep", "status"]
    with chdir(tmp_path):
        assert main(command) == 1
        told = capsys.readouterr()
        assert 'Kept as it is: status: "in progress"' in told.out
        assert "say --yes" in told.err
        assert not Path("tests").exists()
        assert main([*command, "--dry-run"]) == 0
        assert not Path("tests").exists()
        assert main([*command, "--yes"]) == 0
        assert {e.properties["status"] for e in captured("packets.*")} <= {
            "open",
            "in progress",
            "waiting",
            "done",
        }
        assert main([*command, "--yes"]) == 1
        assert "--replace" in capsys.readouterr().err


def test_a_key_that_is_kept_makes_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = write(tmp_path / "export.jsonl", living(20))
    with chdir(tmp_path):
        for name in ("one", "two"):
            assert (
                main(["capture", "--export", str(export), "--name", name, "--key-file", ".capture-key"]) == 0
            )
        assert main(["capture", "--export", str(export), "--name", "three"]) == 0
        one, two, three = (Path("tests/captured", f"{n}.jsonl").read_bytes() for n in ("one", "two", "three"))
        assert one == two != three
        assert Path(".capture-key").stat().st_mode & 0o777 == 0o600
        Path(".capture-key").write_text("short")
        assert main(["capture", "--export", str(export), "--name", "four", "--key-file", ".capture-key"]) == 1


def test_a_key_that_git_would_take_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    export = write(tmp_path / "export.jsonl", living(1))
    key = Path(__file__).with_name("capture.key")
    arguments = ["capture", "--export", str(export), "--key-file", str(key), "--into", str(tmp_path)]
    assert main(arguments) == 1
    assert "git would take" in capsys.readouterr().err
    assert not key.exists()


def test_exports_come_in_several_forms(tmp_path: Path) -> None:
    body = samples.load("users.created")
    data = base64.b64encode(body).decode()
    (tmp_path / "a.json").write_text(json.dumps([{"ackId": "1", "message": {"data": data}}]))
    (tmp_path / "b.jsonl").write_text(f'{json.dumps({"data": data})}\nnot JSON\n\n[1]\n"text"\n')
    (tmp_path / "c.json").write_bytes(samples.load("packets.created"))
    (tmp_path / "d.jsonl").write_text(json.dumps({"data": samples.load("users.deleted").decode()}))
    with chdir(tmp_path):
        assert main(["capture", "--export", str(tmp_path)]) == 0
        assert sorted(event.type for event in captured()) == [
            "packets.created",
            "users.created",
            "users.deleted",
        ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no event"), ("nothing", "no event"), ("[" * 100_000, "no event"), ("{}", "no event")],
)
def test_a_source_without_events_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "export.jsonl").write_text(text)
    assert main(["capture", "--export", str(tmp_path / "export.jsonl")]) == 1
    assert words in capsys.readouterr().err
    assert main(["capture", "--export", str(tmp_path / "no such file")]) == 1
    assert main(["capture", "--emulator", "http://127.0.0.1:1"]) == 1


def test_the_report_has_counts_and_no_value() -> None:
    document = json.loads(samples.load("packets.updated"))
    document["region"] = "eu"
    document["data"]["reason"] = ["secret"]
    document["data"]["value"]["etag"] = "secret"
    document["data"]["value"]["properties"]["Umsatz Contoso"] = "secret"
    document["data"]["value"]["properties"]["title"] = 5
    document["data"]["updateMask"] = ["properties.status", "a.b"]
    unknown = {**document, "entityPath": "contoso/x", "collectionPath": "contoso", "entityKey": "contoso"}
    lacking = Lacking(masks())
    for each in (document, document, unknown):
        lacking.count(each)
    told = "\n".join(lacking.lines())
    for line in (
        "Events: packets.updated (2)",
        "Events: other (an unknown category).updated (1)",
        "Unknown field of an event: region, a text (3)",
        "Unknown field of `data`: reason, a list (3)",
        "Unknown field of a state: etag, a text (3)",
        "Another type than the sample's of packets: title, a number (2)",
        "Form of `updateMask`: NAME.…, properties.NAME (3)",
    ):
        assert line in told
    assert "Unknown property of packets: " in told
    for original in ("ontoso", "secret", "Umsatz", "pk-7f3a", "eu,"):
        assert original not in told


@pytest.mark.parametrize(
    ("mask", "form"),
    [
        (None, "none"),
        ([], "empty"),
        ("status", "no list of texts"),
        ([1], "no list of texts"),
        (["properties"], "properties"),
        (["status", "title"], "NAME"),
        (["properties.status.name"], "properties.NAME.…"),
    ],
)
def test_a_form_of_the_mask_is_told_without_its_names(mask: object, form: str) -> None:
    assert mask_form(mask) == form


def test_tests_take_what_is_captured(tmp_path: Path) -> None:
    export = write(tmp_path / "export.jsonl", living(100))
    with chdir(tmp_path):
        assert main(["capture", "--export", str(export)]) == 0
        found = captured("packets.updated")
        assert found
        event = make_event("packets.updated", captured=0, properties={"status": "won"})
        assert event.entity_path == found[0].entity_path
        assert event.became("status", "won")
        with pytest.raises(LookupError, match="no number 99"):
            make_event("packets.updated", captured=99)
        Path("tests/captured/events.jsonl").write_text("{}\n")
        with pytest.raises(ValueError, match=r"events\.jsonl:1"):
            captured()
