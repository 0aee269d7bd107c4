"""From options and handlers to what should exist."""

import re
from dataclasses import replace

import pytest

from flowhook.deploy import plan
from flowhook.deploy.declared import Declared, Variable
from flowhook.deploy.errors import DeployError
from flowhook.deploy.options import Options
from flowhook.deploy.plan import Facts
from flowhook.deploy.resources import PAUSED, Place, Plan, Resource

PLACE = Place("flows-demo-1", "123456789012", "europe-west1", "flowhook")
URL = "https://flowhook-consume.example"
LOG = Declared("log_events.log_event", ("*",))
CHAT = Declared("notify_chat.notify_chat", ("packet_comments.created",))
DEFAULTS, KNOWN = Options(), Facts(URL)
EVENTS = "projects/flows-demo-1/topics/flowhook-events"


def made(options: Options = DEFAULTS, facts: Facts = KNOWN, *handlers: Declared) -> Plan:
    return plan.make(options, PLACE, handlers or (LOG, CHAT), facts)


def subscription(found: Plan, handler: str) -> Resource:
    (one,) = [r for r in found.of("subscription") if plan.handler_of(PLACE, r.name) == handler]
    return one


def function(found: Plan, target: str) -> Resource:
    return next(r for r in found.of("function") if r.name == f"flowhook-{target}")


def test_a_subscriptions_name_tells_its_filter_and_its_topic() -> None:
    names = {
        plan.subscription_name("flowhook", "m.f", topic, filter_)
        for topic in ("topic-a", "topic-b")
        for filter_ in ("", 'attributes.operation = "created"')
    }
    assert len(names) == 4
    assert all(re.fullmatch(r"flowhook-m\.f-[0-9a-f]{8}", name) for name in names)


def test_a_long_name_stays_one_that_pubsub_takes_and_stays_told_apart() -> None:
    long = "module." + "f" * 300
    first, second = (plan.subscription_name("flowhook", long, "t", filter_) for filter_ in ("", "x"))
    assert first != second
    assert max(len(first), len(second)) <= 255


def test_a_changed_filter_is_another_subscription() -> None:
    changed = replace(CHAT, patterns=("packet_comments.*",))
    before, after = (subscription(made(Options(), Facts(URL), LOG, h), CHAT.name) for h in (CHAT, changed))
    assert before.name != after.name
    assert before.wanted["filter"] != after.wanted["filter"]


def test_an_older_installations_subscription_is_adopted_while_it_is_right() -> None:
    name = "flowhook-log_events.log_event"
    right = Facts(URL, present=frozenset({(name, EVENTS, "")}))
    wrong = Facts(URL, present=frozenset({(name, EVENTS, 'attributes.operation = "created"')}))
    assert subscription(made(facts=right), LOG.name).name == name
    assert subscription(made(facts=wrong), LOG.name).name != name


def test_a_handlers_subscription_pushes_to_its_path_as_the_push_account() -> None:
    found = subscription(made(), CHAT.name).wanted
    token = {"serviceAccountEmail": "flowhook-push@flows-demo-1.iam.gserviceaccount.com", "audience": URL}
    assert found["pushConfig"] == {"pushEndpoint": f"{URL}/notify_chat.notify_chat", "oidcToken": token}
    assert found["expirationPolicy"] == {}
    assert found["topic"] == EVENTS


def test_nothing_is_pushed_before_there_is_an_address_nor_while_paused() -> None:
    assert subscription(made(facts=Facts("")), LOG.name).wanted["pushConfig"] == {}
    paused = made(facts=Facts(URL, paused={LOG.name: "1700000000"}))
    wanted = subscription(paused, LOG.name).wanted
    assert wanted["pushConfig"] == {}
    assert wanted["labels"][PAUSED] == "1700000000"
    assert subscription(paused, CHAT.name).wanted["pushConfig"]


def test_the_alert_of_a_paused_handler_is_quiet() -> None:
    def watched(found: Plan) -> str:
        return next((str(a.wanted) for a in found.of("alert") if a.name == "flowhook: waiting"), "")

    assert "log_events.log_event" in watched(made())
    paused = watched(made(facts=Facts(URL, paused={LOG.name: "1700000000"})))
    assert "log_events.log_event" not in paused
    assert "notify_chat.notify_chat" in paused


@pytest.mark.parametrize(("attempts", "given"), [(1, 5), (5, 5), (20, 20), (100, 100), (1000, 100)])
def test_attempts_are_what_the_handler_declares_within_what_pubsub_takes(attempts: int, given: int) -> None:
    handler = replace(LOG, attempts=attempts)
    policy = subscription(made(Options(), Facts(URL), handler), LOG.name).wanted["deadLetterPolicy"]
    assert policy["maxDeliveryAttempts"] == given


def test_a_push_is_waited_for_longer_than_a_delivery_may_take() -> None:
    options = Options(settings={"DELIVERY_TIMEOUT": "30.5"})
    handlers = (replace(LOG, timeout=15.0), CHAT)
    found = made(options, Facts(URL), *handlers)
    assert subscription(found, LOG.name).wanted["ackDeadlineSeconds"] == 15 + plan.ACK_MARGIN
    assert subscription(found, CHAT.name).wanted["ackDeadlineSeconds"] == 30 + plan.ACK_MARGIN


def test_the_topic_retains_and_what_is_kept_is_kept_for_a_month() -> None:
    found = made(Options(retention_days=3))
    topics = {r.name: r.wanted for r in found.of("topic")}
    assert topics["flowhook-events"]["messageRetentionDuration"] == "259200s"
    kept = {r.name: r.wanted for r in found.of("subscription") if not r.wanted["pushConfig"]}
    assert set(kept) == {"flowhook-rejected", "flowhook-dead-letters"}
    assert {wanted["messageRetentionDuration"] for wanted in kept.values()} == {"2678400s"}


def test_consume_takes_internal_traffic_only_and_is_never_open() -> None:
    found = made(Options(public="no-check"))
    assert function(found, "consume").wanted["serviceConfig"]["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    assert function(found, "receive").wanted["serviceConfig"]["ingressSettings"] == "ALLOW_ALL"
    services = {r.name: r.wanted["invokerIamDisabled"] for r in found.of("service")}
    assert services == {"flowhook-consume": False, "flowhook-receive": True}
    assert [b for b in found.bindings if b.member == "allUsers"] == []


def test_everybody_may_call_receive_alone() -> None:
    assert [b.name for b in made().bindings if b.member == "allUsers"] == ["flowhook-receive"]


def test_the_build_may_write_to_its_own_repository_and_to_no_other() -> None:
    (writer,) = [b for b in made().bindings if b.role == "roles/artifactregistry.writer"]
    assert (writer.kind, writer.name) == ("repository", "flowhook")
    assert (
        function(made(), "receive")
        .wanted["buildConfig"]["dockerRepository"]
        .endswith("/repositories/flowhook")
    )


def test_inline_delivery_takes_less() -> None:
    found = made(Options(delivery="inline"))
    assert found.names("function") == {"flowhook-receive"}
    assert found.names("subscription") == found.names("topic") == {"flowhook-rejected"}
    assert {r.name.partition("@")[0] for r in found.of("account")} == {"flowhook-build", "flowhook-receive"}


TOKEN = replace(
    LOG, variables=(Variable("CRM_TOKEN", secret=True, required=True), Variable("SIZE", False, False))
)


@pytest.mark.parametrize(
    ("delivery", "theirs", "other"), [("pubsub", "consume", "receive"), ("inline", "receive", "")]
)
def test_variables_go_to_the_function_that_runs_handlers_and_to_no_other(
    delivery: str, theirs: str, other: str
) -> None:
    options = Options(
        delivery=delivery, variables={"CRM_TOKEN": "hidden", "SIZE": "3"}, settings={"EVENTS": "*"}
    )
    found = made(options, Facts(URL, versions={"flowhook-variable-CRM_TOKEN": "4"}), TOKEN)
    config = function(found, theirs).wanted["serviceConfig"]
    assert config["environmentVariables"]["SIZE"] == "3"
    assert config["secretEnvironmentVariables"] == [
        {"key": "CRM_TOKEN", "secret": "flowhook-variable-CRM_TOKEN", "version": "4"}
    ]
    assert "hidden" not in str(found)
    if other:
        others = function(found, other).wanted["serviceConfig"]
        assert others["secretEnvironmentVariables"] == []
        assert "SIZE" not in others["environmentVariables"]
        assert others["environmentVariables"]["EVENTS"] == "*"
    readers = {b.member.partition("@")[0] for b in found.bindings if b.name == "flowhook-variable-CRM_TOKEN"}
    assert readers == {f"serviceAccount:flowhook-{theirs}"}


def test_a_required_variable_without_a_value_is_told_with_its_handler() -> None:
    with pytest.raises(DeployError, match=r"log_events\.log_event needs CRM_TOKEN, which has no value"):
        made(Options(), Facts(URL), TOKEN)


def test_a_secret_that_is_stored_already_needs_no_value_again() -> None:
    found = made(Options(), Facts(URL, versions={"flowhook-variable-CRM_TOKEN": "2"}), TOKEN)
    (mounted,) = function(found, "consume").wanted["serviceConfig"]["secretEnvironmentVariables"]
    assert mounted["version"] == "2"


def test_a_variable_that_nobody_declares_is_refused_where_handlers_declare() -> None:
    options = Options(variables={"CRM_TOKEN": "x", "GREETING": "hello"})
    with pytest.raises(DeployError, match="GREETING: no handler declares it"):
        made(options, Facts(URL), TOKEN)
    config = function(made(options), "consume").wanted["serviceConfig"]
    assert config["environmentVariables"]["GREETING"] == "hello"


def test_an_empty_value_is_none() -> None:
    with pytest.raises(DeployError, match="needs CRM_TOKEN"):
        made(Options(variables={"CRM_TOKEN": ""}), KNOWN, TOKEN)
    config = function(made(Options(variables={"CRM_TOKEN": "x", "SIZE": ""}), KNOWN, TOKEN), "consume")
    assert "SIZE" not in config.wanted["serviceConfig"]["environmentVariables"]


def test_what_one_handler_holds_for_a_secret_is_one_for_all() -> None:
    open_hearted = replace(CHAT, variables=(Variable("CRM_TOKEN", secret=False, required=True),))
    for handlers in ((TOKEN, open_hearted), (open_hearted, TOKEN)):
        found = made(Options(variables={"CRM_TOKEN": "hidden"}), KNOWN, *handlers)
        assert "hidden" not in str(found)


@pytest.mark.parametrize(
    ("subscription_name", "handler"),
    [
        ("flowhook-log_events.log_event", "log_events.log_event"),
        ("flowhook-log_events.log_event-0123abcd", "log_events.log_event"),
        ("flowhook-flowhook.doctor", "flowhook.doctor"),
        ("flowhook-m.%C3%A9t%C3%A9-0123abcd", "m.été"),
        ("flowhook-events", ""),
        ("flowhook-dead-letters", ""),
        ("flow-hook-m.f", ""),
        ("flow-m.f", ""),
    ],
)
def test_a_subscription_is_known_by_its_handler(subscription_name: str, handler: str) -> None:
    assert plan.handler_of(PLACE, subscription_name) == handler


def test_an_address_makes_a_channel_and_the_alerts_go_through_it() -> None:
    options = Options(notification_email="ops@example.com")
    found = made(
        options, Facts(URL, channels={options.notification_email: "projects/p/notificationChannels/1"})
    )
    assert found.names("channel") == {"ops@example.com"}
    alerts = found.of("alert")
    assert {tuple(a.wanted["notificationChannels"]) for a in alerts} == {
        ("projects/p/notificationChannels/1",)
    }
    assert all(a.wanted["documentation"]["content"] for a in alerts)
    assert {a.name for a in alerts} == {
        f"flowhook: {title}" for title in ("dead letters", "errors", "rejected", "refused", "waiting")
    }


def test_what_is_sent_again_is_pushed_to_a_path_of_its_own_for_as_long_as_the_slowest_handler_takes() -> None:
    found = made(Options(), Facts(URL), replace(LOG, timeout=25.0), CHAT)
    (wanted,) = (r.wanted for r in found.of("subscription") if r.name == "flowhook-replay")
    assert wanted["topic"] == "projects/flows-demo-1/topics/flowhook-replay"
    assert wanted["pushConfig"]["pushEndpoint"] == f"{URL}/replay"
    assert wanted["pushConfig"]["oidcToken"]["audience"] == URL
    assert wanted["ackDeadlineSeconds"] == 25 + plan.ACK_MARGIN
    assert (
        wanted["deadLetterPolicy"]["deadLetterTopic"] == "projects/flows-demo-1/topics/flowhook-dead-letters"
    )
    assert (wanted["filter"], wanted["expirationPolicy"]) == ("", {})
