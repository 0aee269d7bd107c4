"""The control plane of the tests is strict: a test can only be as strict as what it runs against."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.google_cloud import flows, log_filters, picture
from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.desk import CHAT, LOG, Desk
from tests.support.google_cloud.exchange import BrokenConnection, Killed, Request
from tests.support.google_cloud.iam import AGENT, NUMBER
from tests.support.google_cloud.timeline import stamp

PROJECT = "flows-demo-1"
PUBSUB = f"pubsub.googleapis.com/v1/projects/{PROJECT}"
SECRETS = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
IAM = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"
MONITORING = f"monitoring.googleapis.com/v3/projects/{PROJECT}"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west1/services"
FUNCTIONS = f"cloudfunctions.googleapis.com/v2/projects/{PROJECT}/locations/europe-west1/functions"
APIS = (
    "pubsub", "secretmanager", "iam", "run", "cloudfunctions", "artifactregistry", "cloudresourcemanager",
    "monitoring", "logging",
)  # fmt: skip


def ask(plane: ControlPlane, method: str, where: str, document: Any = None, **query: str) -> tuple[int, Any]:
    host, _, path = where.partition("/")
    body = json.dumps(document).encode() if document is not None else b""
    names = {name.replace("__", "."): value for name, value in query.items()}
    reply = plane.answer(Request(method, host, f"/{path}", names, {}, body))
    return reply.status, json.loads(reply.body)


@pytest.fixture
def plane() -> ControlPlane:
    made = ControlPlane(PROJECT)
    made.place.enabled_from.update({f"{name}.googleapis.com": 0.0 for name in APIS})
    made.pubsub.put_topic("events", {"name": f"projects/{PROJECT}/topics/events"})
    made.secrets.put("a-secret", b"old")
    made.iam.agents.add(AGENT)
    return made


TOPIC = f"projects/{PROJECT}/topics/events"
LOGGING = f"logging.googleapis.com/v2/projects/{PROJECT}"
METRICS, ENTRIES = f"{LOGGING}/metrics", "logging.googleapis.com/v2/entries:list"
DASHBOARDS = f"monitoring.googleapis.com/v1/projects/{PROJECT}/dashboards"
MINE = {"resourceNames": [f"projects/{PROJECT}"]}
TIMES = {"interval__endTime": "2026-03-02T09:00:00Z", "view": "FULL"}
PERIOD = {"aggregation__alignmentPeriod": "60s"}
SIZES = 'metric.type = "pubsub.googleapis.com/topic/message_sizes"'
IN_TOPICS = f'{SIZES} AND resource.type = "pubsub_topic"'
COUNTER = {
    "name": "m",
    "filter": "severity>=ERROR",
    "metricDescriptor": {"metricKind": "DELTA", "valueType": "INT64", "labels": []},
}


def chart(filter_: str, aligner: str, width: int = 48, pieces: int = 1) -> dict[str, Any]:
    """A dashboard with a chart, as often as is said."""
    aggregation = {"alignmentPeriod": "60s", "perSeriesAligner": aligner}
    query = {"timeSeriesFilter": {"filter": filter_, "aggregation": aggregation}}
    widget = {"xyChart": {"dataSets": [{"timeSeriesQuery": query}]}}
    tiles = [{"width": width, "height": 1, "widget": widget}] * pieces
    name = f"projects/{PROJECT}/dashboards/one"
    return {"name": name, "displayName": "one", "mosaicLayout": {"columns": 48, "tiles": tiles}}


POLICY = {"policy": {"bindings": [], "etag": "c3RhbGU="}}


REFUSED: list[tuple[str, str, Any, dict[str, str], int]] = [
    ("GET", f"{PUBSUB}/nothing", None, {}, 404),
    ("GET", f"{PUBSUB}/topics", None, {"pageSise": "1"}, 400),
    ("GET", f"{PUBSUB}/topics", None, {"pageSize": "many"}, 400),
    ("PUT", f"{PUBSUB}/topics/new", {"lables": {}}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/go", {}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/goog-mine", {}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/events", {}, {}, 409),
    ("PUT", f"{PUBSUB}/topics/new", {"labels": {"Upper": "x"}}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/new", {"messageRetentionDuration": "3000000s"}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/new", {"messageRetentionDuration": "a week"}, {}, 400),
    ("PUT", f"{PUBSUB}/topics/new", {"messageRetentionDuration": 600}, {}, 400),
    ("PATCH", f"{PUBSUB}/topics/events", {"topic": {"name": TOPIC}}, {}, 400),
    ("PATCH", f"{PUBSUB}/topics/events", {"topic": {}, "updateMask": "nothingLikeIt"}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC + "x"}, {}, 404),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC, "ackDeadlineSeconds": "10"}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC, "ackDeadlineSeconds": 5}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC, "filter": "category = x"}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC, "expirationPolicy": {"ttl": "60s"}}, {}, 400),
    ("PUT", f"{PUBSUB}/subscriptions/new", {"topic": TOPIC, "expirationPolicy": {"ttl": "86400s"}}, {}, 400),
    (
        "PUT",
        f"{PUBSUB}/subscriptions/new",
        {"topic": TOPIC, "pushConfig": {"pushEndpoint": "http://a.example"}},
        {},
        400,
    ),
    (
        "PUT",
        f"{PUBSUB}/subscriptions/new",
        {
            "topic": TOPIC,
            "pushConfig": {
                "pushEndpoint": "https://a.example",
                "oidcToken": {"serviceAccountEmail": "nobody@flows-demo-1.iam.gserviceaccount.com"},
            },
        },
        {},
        404,
    ),
    (
        "PUT",
        f"{PUBSUB}/subscriptions/new",
        {"topic": TOPIC, "deadLetterPolicy": {"deadLetterTopic": TOPIC, "maxDeliveryAttempts": 3}},
        {},
        400,
    ),
    ("POST", SECRETS, {"replication": {"automatic": {}}}, {}, 400),
    ("POST", SECRETS, {}, {"secretId": "new"}, 400),
    ("POST", SECRETS, {"replication": {"automatic": {}}}, {"secretId": "a-secret"}, 409),
    ("POST", SECRETS, {"replication": {"automatic": {}}}, {"secretId": "with.dot"}, 400),
    ("POST", f"{SECRETS}/a-secret:addVersion", {"payload": {"data": "not base64!"}}, {}, 400),
    ("GET", f"{SECRETS}/a-secret/versions/2:access", None, {}, 404),
    ("PATCH", f"{SECRETS}/a-secret", {"labels": {}}, {}, 400),
    ("POST", f"{SECRETS}/a-secret:setIamPolicy", POLICY, {}, 409),
    ("POST", f"{SECRETS}/missing:setIamPolicy", POLICY, {}, 404),
    ("POST", IAM, {"accountId": "short"}, {}, 400),
    ("POST", f"{MONITORING}/alertPolicies", {"displayName": "of nothing"}, {}, 400),
    ("POST", f"{MONITORING}/alertPolicies", {"combiner": "XOR", "conditions": []}, {}, 400),
    ("GET", f"{MONITORING}/timeSeries", None, {"filter": "metric.type = x"}, 400),
    ("GET", f"{MONITORING}/timeSeries", None, {**TIMES, "filter": 'metric.type = "of/nothing"'}, 404),
    ("GET", f"{MONITORING}/timeSeries", None, {**TIMES, "filter": f'{SIZES} AND metric.label.x = "1"'}, 400),
    (
        "GET",
        f"{MONITORING}/timeSeries",
        None,
        {**TIMES, "filter": SIZES, **PERIOD, "aggregation__perSeriesAligner": "ALIGN_RATE"},
        400,
    ),
    ("POST", DASHBOARDS, {"displayName": "of nobody"}, {}, 400),
    ("POST", DASHBOARDS, chart(f'{SIZES} AND resource.type = "pubsub_topic"', "ALIGN_RATE"), {}, 400),
    ("POST", DASHBOARDS, chart(SIZES, "ALIGN_DELTA"), {}, 400),
    ("POST", DASHBOARDS, chart('metric.type = "logging.googleapis.com/user/none"', "ALIGN_RATE"), {}, 404),
    ("POST", DASHBOARDS, chart(IN_TOPICS, "ALIGN_DELTA", width=49), {}, 400),
    ("POST", DASHBOARDS, chart(IN_TOPICS, "ALIGN_DELTA", pieces=2), {}, 400),
    ("POST", DASHBOARDS, {**chart(IN_TOPICS, "ALIGN_DELTA"), "tiles": []}, {}, 400),
    ("POST", METRICS, {"name": "m"}, {}, 400),
    ("POST", METRICS, {**COUNTER, "filter": "severity >= >= ERROR"}, {}, 400),
    ("POST", METRICS, {**COUNTER, "name": "a metric"}, {}, 400),
    ("POST", METRICS, {**COUNTER, "labelExtractors": {"x": "EXTRACT(jsonPayload.x)"}}, {}, 400),
    ("PUT", f"{METRICS}/m", {**COUNTER, "name": "another"}, {}, 400),
    ("POST", ENTRIES, {"resourceNames": ["projects/somebody-elses"]}, {}, 400),
    ("POST", ENTRIES, {**MINE, "filter": "severity="}, {}, 400),
    ("POST", ENTRIES, {**MINE, "orderBy": "receiveTimestamp asc"}, {}, 400),
    ("POST", ENTRIES, {"filter": ""}, {}, 400),
    ("PATCH", f"{RUN}/missing", {"template": {}}, {"updateMask": "traffic"}, 404),
    ("POST", FUNCTIONS, {"buildConfig": {}}, {"functionId": "a", "functionID": "b"}, 400),
    ("GET", "cloudresourcemanager.googleapis.com/v3/projects/somebody-elses", None, {}, 403),
    ("GET", f"firestore.googleapis.com/v1/projects/{PROJECT}/databases", None, {}, 403),
]


@pytest.mark.parametrize(
    "row", REFUSED, ids=lambda row: f"{row[0]} {row[1].partition('/')[2]} {row[2]} {row[3]}"
)
def test_what_google_would_refuse_is_refused(
    plane: ControlPlane, row: tuple[str, str, Any, dict[str, str], int]
) -> None:
    method, where, document, query, status = row
    assert ask(plane, method, where, document, **query)[0] == status


def policy(plane: ControlPlane, **binding: Any) -> tuple[int, Any]:
    """Give something on a-secret, as one who has just read its policy."""
    _, present = ask(plane, "GET", f"{SECRETS}/a-secret:getIamPolicy", options__requestedPolicyVersion="3")
    given = {"role": "roles/secretmanager.secretAccessor", **binding}
    wanted = {**present, "version": 3, "bindings": [*present.get("bindings", []), given]}
    return ask(plane, "POST", f"{SECRETS}/a-secret:setIamPolicy", {"policy": wanted})


def test_what_these_rows_begin_from_is_taken(plane: ControlPlane) -> None:
    """Else they would be refused for another reason."""
    assert ask(plane, "POST", DASHBOARDS, chart(IN_TOPICS, "ALIGN_DELTA"))[0] == 200
    assert ask(plane, "POST", METRICS, COUNTER)[0] == 200
    assert ask(plane, "PUT", f"{METRICS}/m", {**COUNTER, "description": "mine"})[0] == 200
    assert ask(plane, "POST", ENTRIES, MINE)[0] == 200
    asked = {**TIMES, "filter": SIZES, **PERIOD, "aggregation__perSeriesAligner": "ALIGN_SUM"}
    assert ask(plane, "GET", f"{MONITORING}/timeSeries", **asked)[0] == 200


def test_members_and_roles_must_exist(plane: ControlPlane) -> None:
    member = f"serviceAccount:{AGENT}"
    assert policy(plane, members=[member])[0] == 200
    assert policy(plane, members=["serviceAccount:nobody@flows-demo-1.iam.gserviceaccount.com"])[0] == 400
    assert policy(plane, members=["somebody"])[0] == 400
    assert policy(plane, members=["allUsers"])[0] == 400
    assert policy(plane, members=[member], role="roles/run.invoker")[0] == 400
    assert policy(plane, members=[])[0] == 400


def test_conditions_are_hidden_from_who_knows_none_and_cannot_be_written_back(plane: ControlPlane) -> None:
    condition = {"title": "never", "expression": "false"}
    assert policy(plane, members=[f"serviceAccount:{AGENT}"], condition=condition)[0] == 200
    _, old = ask(plane, "GET", f"{SECRETS}/a-secret:getIamPolicy")
    assert "_withcond_" in old["bindings"][0]["role"]
    assert ask(plane, "POST", f"{SECRETS}/a-secret:setIamPolicy", {"policy": old})[0] == 400


def test_latest_is_what_it_was_and_a_number_is_what_it_is(plane: ControlPlane) -> None:
    plane.faults.latest_stale = 600
    plane.time.advance(700)
    plane.secrets.put("a-secret", b"new")
    plane.iam.accounts["reader@flows-demo-1.iam.gserviceaccount.com"] = "1"
    _, latest = ask(plane, "GET", f"{SECRETS}/a-secret/versions/latest:access")
    _, second = ask(plane, "GET", f"{SECRETS}/a-secret/versions/2:access")
    assert latest["name"] == f"projects/{NUMBER}/secrets/a-secret/versions/1"
    assert second["name"] == f"projects/{NUMBER}/secrets/a-secret/versions/2"
    plane.time.advance(600)
    _, later = ask(plane, "GET", f"{SECRETS}/a-secret/versions/latest:access")
    assert later["payload"] == second["payload"]


def test_a_new_account_and_what_it_may_are_known_later(plane: ControlPlane) -> None:
    plane.faults.accounts_unknown, plane.faults.grants_late = 30, 100
    assert ask(plane, "POST", IAM, {"accountId": "newcomer"})[0] == 200
    email = f"newcomer@{PROJECT}.iam.gserviceaccount.com"
    assert policy(plane, members=[f"serviceAccount:{email}"])[0] == 400
    plane.time.advance(31)
    assert policy(plane, members=[f"serviceAccount:{email}"])[0] == 200
    role = "roles/secretmanager.secretAccessor"
    assert not plane.iam.permits("secrets/a-secret", role, email)
    plane.time.advance(101)
    assert plane.iam.permits("secrets/a-secret", role, email)


def test_an_answer_that_google_would_not_give_is_a_defect_of_the_fake(plane: ControlPlane) -> None:
    plane.pubsub.topics["events"].document["nonsense"] = True
    with pytest.raises(AssertionError, match="nonsense"):
        ask(plane, "GET", f"{PUBSUB}/topics")


def test_a_connection_breaks_before_or_after_a_change_and_only_once(plane: ControlPlane) -> None:
    plane.faults.cuts = "before"
    with pytest.raises(BrokenConnection):
        ask(plane, "PUT", f"{PUBSUB}/topics/first", {})
    assert ask(plane, "PUT", f"{PUBSUB}/topics/first", {})[0] == 200
    plane.faults.cuts = "after"
    with pytest.raises(BrokenConnection):
        ask(plane, "PUT", f"{PUBSUB}/topics/second", {})
    assert ask(plane, "PUT", f"{PUBSUB}/topics/second", {})[0] == 409


def test_who_was_killed_asks_for_nothing_any_more(plane: ControlPlane) -> None:
    plane.kill_at(1, "after")
    assert ask(plane, "PUT", f"{PUBSUB}/topics/first", {})[0] == 200
    for _ in range(2):
        with pytest.raises(Killed):
            ask(plane, "PUT", f"{PUBSUB}/topics/second", {})
    assert plane.revive()
    assert ask(plane, "PUT", f"{PUBSUB}/topics/second", {})[0] == 409


def test_pages_can_be_small(plane: ControlPlane) -> None:
    plane.faults.page_size = 1
    plane.secrets.put("b-secret", b"")
    _, first = ask(plane, "GET", SECRETS)
    _, second = ask(plane, "GET", SECRETS, pageToken=first["nextPageToken"])
    assert [page["secrets"][0]["name"][-8:] for page in (first, second)] == ["a-secret", "b-secret"]
    assert "nextPageToken" not in second


# --- the messages ------------------------------------------------------------------------------------------


def test_messages_wait_are_filtered_and_come_again(plane: ControlPlane) -> None:
    wanted = {"topic": TOPIC, "filter": 'attributes.category = "users"', "ackDeadlineSeconds": 10}
    assert ask(plane, "PUT", f"{PUBSUB}/subscriptions/users", wanted)[0] == 200
    messages = [{"data": "eA==", "attributes": {"category": c}} for c in ("users", "packets")]
    assert ask(plane, "POST", f"{PUBSUB}/topics/events:publish", {"messages": messages})[0] == 200
    pull = f"{PUBSUB}/subscriptions/users:pull"
    _, pulled = ask(plane, "POST", pull, {"maxMessages": 10})
    (received,) = pulled["receivedMessages"]
    assert ask(plane, "POST", pull, {"maxMessages": 10})[1] == {}
    plane.time.advance(11)
    _, again = ask(plane, "POST", pull, {"maxMessages": 10})
    late = {"ackIds": [received["ackId"]]}
    assert ask(plane, "POST", f"{PUBSUB}/subscriptions/users:acknowledge", late)[0] == 200
    assert len(plane.pubsub.waiting("users")) == 1
    now = {"ackIds": [again["receivedMessages"][0]["ackId"]]}
    assert ask(plane, "POST", f"{PUBSUB}/subscriptions/users:acknowledge", now)[0] == 200
    assert plane.pubsub.waiting("users") == []


def test_a_later_subscription_begins_in_the_past_where_the_topic_retains(plane: ControlPlane) -> None:
    plane.pubsub.topics["events"].document["messageRetentionDuration"] = "86400s"
    began = plane.time.now
    plane.pubsub.publish("events", b"early", {})
    assert ask(plane, "PUT", f"{PUBSUB}/subscriptions/late", {"topic": TOPIC})[0] == 200
    assert plane.pubsub.waiting("late") == []
    seek = {"time": stamp(began - 1)}
    assert ask(plane, "POST", f"{PUBSUB}/subscriptions/late:seek", seek)[0] == 200
    assert [message.data for message in plane.pubsub.waiting("late")] == [b"early"]


def test_a_push_is_tried_again_and_buried_after_its_attempts(deployed: Desk) -> None:
    plane = deployed.plane
    plane.simulation.failing.add(CHAT)
    deployed.handlers({LOG: ("*",), CHAT: ("packets.created",)}, notify_chat__notify_chat={"attempts": 5})
    assert deployed.run("--yes").status == 0
    event = flows.body(1, "pipelinesPackets", "created", plane.time.now)
    assert flows.post(plane, event, deployed.accepted[0]) == 200
    plane.time.advance(60)
    assert plane.pubsub.waiting("flowhook-dead-letters") == []
    plane.time.advance(600)
    (letter,) = plane.pubsub.waiting("flowhook-dead-letters")
    assert letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_a_push_is_refused_without_the_right_to_invoke(deployed: Desk) -> None:
    plane = deployed.plane
    service = "services/europe-west1/flowhook-consume"
    plane.iam.policies[service]["bindings"] = []
    event = flows.body(1, "users", "created", plane.time.now)
    assert flows.post(plane, event, deployed.accepted[0]) == 200
    plane.time.advance(100)
    assert not [ran for ran in plane.simulation.ran if ran.handler == LOG]


def test_an_event_of_nobody_is_refused(deployed: Desk) -> None:
    event = flows.body(1, "users", "created", deployed.plane.time.now)
    assert flows.post(deployed.plane, event, b"a-wrong-secret") == 401


def test_a_picture_shows_what_differs(desk: Desk, tmp_path: Path) -> None:
    empty = picture.taken(desk.plane)
    assert not any(empty.values())
    assert desk.run("--yes").status == 0
    assert picture.taken(desk.plane) != empty


# --- the log -----------------------------------------------------------------------------------------------

ENTRY = {
    "severity": "WARNING",
    "timestamp": "2026-03-02T09:00:00.500Z",
    "jsonPayload": {"outcome": "published", "status": 200, "handlers": ["a.b", "c.d"], "message": 'say "hi"'},
}


@pytest.mark.parametrize(
    ("filter_", "takes"),
    [
        ("", True),
        ("severity>=INFO", True),
        ("severity>=ERROR", False),
        ("jsonPayload.outcome:*", True),
        ("jsonPayload.problem:*", False),
        ('jsonPayload.outcome="published" AND jsonPayload.status>=400', False),
        ('jsonPayload.outcome="published" OR jsonPayload.status>=400', True),
        ('(severity=ERROR OR severity=WARNING) AND NOT jsonPayload.handlers="a.b"', False),
        ('jsonPayload.handlers="c.d"', True),
        ('jsonPayload.handlers="c"', False),
        ('jsonPayload.outcome=("ignored" OR "published")', True),
        (r'jsonPayload.message:"\"hi\""', True),
        ('jsonPayload.outcome=~"^pub"', True),
        ('jsonPayload.outcome!~"^pub"', False),
        ('timestamp>="2026-03-02T09:00:00Z" AND timestamp<"2026-03-02T09:00:01Z"', True),
        ('timestamp>"2026-03-02T09:00:01Z"', False),
    ],
)
def test_a_filter_of_the_log_takes_what_it_says(filter_: str, takes: bool) -> None:
    assert log_filters.parsed(filter_)(ENTRY) == takes


def test_a_line_is_found_once_it_has_been_received(plane: ControlPlane) -> None:
    plane.faults.logs_late = 10
    plane.logs.write("flowhook-receive", {"severity": "INFO", "message": "hello"})
    assert ask(plane, "POST", ENTRIES, MINE) == (200, {"entries": []})
    plane.time.advance(11)
    _, first = ask(plane, "POST", ENTRIES, MINE)
    assert "entries" not in first
    _, second = ask(plane, "POST", ENTRIES, {**MINE, "pageToken": first["nextPageToken"]})
    (entry,) = second["entries"]
    assert entry["jsonPayload"] == {"message": "hello"}
    assert "nextPageToken" not in second


def test_a_metric_counts_what_comes_after_it(plane: ControlPlane) -> None:
    line = {"severity": "ERROR", "message": "hello"}
    plane.logs.write("flowhook-receive", line)
    plane.time.advance(60)
    assert ask(plane, "POST", METRICS, COUNTER)[0] == 200
    plane.logs.write("flowhook-receive", line)
    plane.time.advance(120)
    metric = 'metric.type = "logging.googleapis.com/user/m"'
    asked = {"interval__endTime": stamp(plane.time.now), "interval__startTime": stamp(plane.time.now - 600)}
    _, found = ask(plane, "GET", f"{MONITORING}/timeSeries", filter=metric, view="FULL", **asked)
    assert [len(series["points"]) for series in found["timeSeries"]] == [1]
