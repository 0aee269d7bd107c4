"""What should exist: from the options and what the handlers declare to resources and bindings, in order."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from flowhook.deploy import alerts, dashboard, deployed, ledger, metrics
from flowhook.deploy.declared import Declared, Variable
from flowhook.deploy.errors import DeployError
from flowhook.deploy.options import Options
from flowhook.deploy.resources import (
    CONSUME,
    OURS,
    PAUSED,
    RECEIVE,
    SECRET_FILE,
    SECRET_FOLDER,
    Binding,
    Place,
    Plan,
    Resource,
)

RUNTIME = "python313"
# The README says why these values. A push that is not answered ACK_MARGIN seconds after a delivery's end has
# failed; what fails is pushed again after 10 to 600 seconds. The doctor's is not to be waited for that long.
ACK_MARGIN = 21
MIN_RETRY, MAX_RETRY, DOCTOR_MAX_RETRY = "10s", "600s", "20s"
LONGEST_ACK = 600
DAY = 24 * 60 * 60
KEPT = f"{31 * DAY}s"
# With these delays 15 hours go by before an event is a dead letter.
MAX_ATTEMPTS = 100
BUILD_ROLES = ("roles/logging.logWriter", "roles/storage.objectViewer")
WRITER, PUBLISHER, SUBSCRIBER = (
    "roles/artifactregistry.writer",
    "roles/pubsub.publisher",
    "roles/pubsub.subscriber",
)
ACCESSOR, INVOKER = "roles/secretmanager.secretAccessor", "roles/run.invoker"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - a role
EVERYBODY = "allUsers"
DOCTOR = Declared(deployed.DOCTOR, (), MAX_ATTEMPTS)
DOCTOR_FILTER = f'attributes.entity_key = "{deployed.DOCTOR_KEY}"'
# The variable of `consume` that nothing but a rollback reads.
HANDLERS = "FLOWHOOK_HANDLERS"
# The topic of what operators send again, its subscription, and the path that this pushes to.
REPLAY = "replay"
# The letters of a hash that tell a subscription from its predecessor.
HASH = 8


@dataclass(frozen=True)
class Facts:
    """What the plan takes from what exists: what only Google knows, and what must stay as it is.

    `present` is name, topic and filter of each subscription of ours; `versions` the number that each secret
    is mounted with; `paused` since when a handler is, by its name; `channels` the name of each address's.
    """

    consume_url: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    present: frozenset[tuple[str, str, str]] = frozenset()
    paused: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)


def make(options: Options, place: Place, handlers: Sequence[Declared], facts: Facts) -> Plan:
    """The plan. Raises DeployError where a variable has no value or nobody wants it."""
    variables = _wanted_variables(options, place, handlers, facts)
    pushed = tuple(_pushed(options, place, handlers, facts)) if options.pubsub else ()
    channel = facts.channels.get(options.notification_email, "")
    resources = (
        *_accounts(options, place),
        *_topics(options, place),
        *_kept(options, place),
        *pushed,
        Resource("repository", place.name, {"format": "DOCKER", "labels": {OURS: place.name}}),
        *_secrets(place, variables),
        *ledger.planned(options, place, handlers),
        *_functions(options, place, handlers, variables, facts),
        *_services(options, place, facts),
        *alerts.planned(options, place, _watched(place, pushed, facts), channel),
        metrics.planned(place),
        dashboard.planned(options, place),
    )
    bindings = [*_bindings(options, place, variables, pushed)]
    if ledger.is_needed(options, handlers):
        bindings.append(ledger.binding(place, place.member(runs_handlers(options))))
    return Plan(resources, tuple(bindings))


def runs_handlers(options: Options) -> str:
    """The function that does."""
    return CONSUME if options.pubsub else RECEIVE


def environment(options: Options, place: Place, function: str) -> dict[str, str]:
    """The variables of flowhook itself for one of the functions."""
    return {
        "DELIVERY": options.delivery,
        "GOOGLE_CLOUD_PROJECT": place.project,
        "REJECTED_TOPIC": place.called("rejected"),
        **({"PUBSUB_TOPIC": place.called("events")} if options.pubsub else {}),
        **({"WEBHOOK_SECRET_FILE": f"{SECRET_FOLDER}/{SECRET_FILE}"} if function == RECEIVE else {}),
        **options.settings,
    }


def handlers_variable(handlers: Sequence[Declared]) -> dict[str, str]:
    """What a revision of `consume` says of itself: which handlers it has, so that a rollback knows."""
    return {HANDLERS: ",".join(sorted(handler.name for handler in handlers))}


def subscription_name(prefix: str, handler: str, topic: str, filter_: str) -> str:
    """The id of a handler's subscription: another filter or topic, which can't be changed, is another one."""
    digest = hashlib.sha256(f"{topic}\n{filter_}".encode()).hexdigest()[:HASH]
    return f"{legacy_name(prefix, handler)[: deployed.LONGEST_NAME - HASH - 1]}-{digest}"


def legacy_name(prefix: str, handler: str) -> str:
    """How a handler's subscription was called before its name told its filter."""
    return deployed.push_to(handler, (), prefix).name


def handler_of(place: Place, subscription: str) -> str:
    """The handler that a subscription of this installation belongs to; empty where it is nobody's."""
    handler = unquote(subscription.removeprefix(f"{place.name}-").partition("-")[0])
    return handler if subscription.startswith(f"{place.name}-") and "." in handler else ""


def is_pushed(place: Place, subscription: str) -> bool:
    """Whether a subscription of this installation is one that is pushed to `consume`, unless it is paused."""
    return bool(handler_of(place, subscription)) or subscription == place.called(REPLAY)


def _accounts(options: Options, place: Place) -> Iterator[Resource]:
    for role in ("build", RECEIVE, *((CONSUME, "push") if options.pubsub else ())):
        yield Resource("account", place.account(role))


def _topics(options: Options, place: Place) -> Iterator[Resource]:
    labels = {OURS: place.name}
    yield Resource("topic", place.called("rejected"), {"labels": labels})
    if options.pubsub:
        retained = f"{options.retention_days * DAY}s"
        yield Resource(
            "topic", place.called("events"), {"labels": labels, "messageRetentionDuration": retained}
        )
        yield Resource("topic", place.called("dead-letters"), {"labels": labels})
        yield Resource("topic", place.called(REPLAY), {"labels": labels})


def _kept(options: Options, place: Place) -> Iterator[Resource]:
    """The subscriptions that nothing is pushed from: what arrives waits in them for somebody."""
    for what in ("rejected", *(("dead-letters",) if options.pubsub else ())):
        fields = {"ackDeadlineSeconds": 60, "messageRetentionDuration": KEPT, "pushConfig": {}}
        yield Resource("subscription", place.called(what), {**_common(place, what, ""), **fields})


def _common(place: Place, topic: str, filter_: str) -> dict[str, Any]:
    labels = {OURS: place.name}
    return {"topic": place.topic(topic), "filter": filter_, "expirationPolicy": {}, "labels": labels}


def _pushed(options: Options, place: Place, handlers: Sequence[Declared], facts: Facts) -> Iterator[Resource]:
    for handler in (*handlers, DOCTOR):
        _, path, filter_ = deployed.push_to(handler.name, handler.patterns, place.name)
        filter_ = DOCTOR_FILTER if handler is DOCTOR else filter_
        name = _name(place, handler.name, filter_, facts)
        paused = facts.paused.get(handler.name)
        pushing = facts.consume_url and not paused
        fields = {
            **_common(place, "events", filter_),
            "labels": {OURS: place.name, **({PAUSED: paused} if paused else {})},
            **_manners(options, place, handler),
            "pushConfig": push_config(place, path, facts.consume_url) if pushing else {},
        }
        yield Resource("subscription", name, fields)
    yield _replayed(options, place, handlers, facts)


def _replayed(options: Options, place: Place, handlers: Sequence[Declared], facts: Facts) -> Resource:
    """The subscription of what operators send again; each message names its handler, the slowest decides."""
    slowest = max((handler.timeout or 0.0 for handler in handlers), default=0.0)
    longest = Declared(REPLAY, (), MAX_ATTEMPTS, max(slowest, options.delivery_timeout))
    pushed = push_config(place, f"/{REPLAY}", facts.consume_url) if facts.consume_url else {}
    fields = {**_common(place, REPLAY, ""), **_manners(options, place, longest), "pushConfig": pushed}
    return Resource("subscription", place.called(REPLAY), fields)


def _watched(place: Place, pushed: Sequence[Resource], facts: Facts) -> list[str]:
    """The subscriptions of handlers that are not paused: only they have an oldest event to worry about."""
    return sorted(
        resource.name for resource in pushed if handler_of(place, resource.name) not in facts.paused
    )


def _name(place: Place, handler: str, filter_: str, facts: Facts) -> str:
    """The name, or the older one of a subscription that is there and right."""
    topic, legacy = place.topic("events"), legacy_name(place.name, handler)
    hashed = subscription_name(place.name, handler, topic, filter_)
    return legacy if (legacy, topic, filter_) in facts.present else hashed


def _manners(options: Options, place: Place, handler: Declared) -> dict[str, Any]:
    """How long a push is waited for, how often it is tried, and what becomes of it then."""
    longest = handler.timeout or options.delivery_timeout
    slowest = DOCTOR_MAX_RETRY if handler is DOCTOR else MAX_RETRY
    attempts = min(MAX_ATTEMPTS, max(5, handler.attempts))
    return {
        "ackDeadlineSeconds": min(LONGEST_ACK, max(10, math.floor(longest) + ACK_MARGIN)),
        "retryPolicy": {"minimumBackoff": MIN_RETRY, "maximumBackoff": slowest},
        "deadLetterPolicy": {"deadLetterTopic": place.topic("dead-letters"), "maxDeliveryAttempts": attempts},
        "messageRetentionDuration": f"{options.retention_days * DAY}s",
    }


def push_config(place: Place, path: str, url: str) -> dict[str, Any]:
    """How a subscription pushes to a path of `consume`, whose address is `url`."""
    token = {"serviceAccountEmail": place.account("push"), "audience": url}
    return {"pushEndpoint": f"{url}{path}", "oidcToken": token}


def _wanted_variables(
    options: Options, place: Place, handlers: Sequence[Declared], facts: Facts
) -> dict[str, Variable]:
    """What the function that runs handlers is told: by name."""
    declared = _merged(v for handler in handlers for v in handler.variables or ())
    known = any(handler.variables is not None for handler in handlers)
    strange = [name for name in options.variables if name not in declared]
    if known and strange:
        raise DeployError(
            f"{options.env_file}: {', '.join(strange)}: no handler declares it and it is no setting; "
            f'the handler that reads it declares it with variable("{strange[0]}")'
        )
    for handler in handlers:
        for variable in handler.variables or ():
            hidden = declared[variable.name].secret
            _require(options, place, handler.name, replace(variable, secret=hidden), facts)
    undeclared = {name: Variable(name, False, False) for name in strange}
    return {name: v for name, v in {**undeclared, **declared}.items() if _has_value(options, place, v, facts)}


def _merged(variables: Iterable[Variable]) -> dict[str, Variable]:
    """By name. What one handler holds for a secret is one for all."""
    found: dict[str, Variable] = {}
    for variable in variables:
        hidden = variable.secret or (variable.name in found and found[variable.name].secret)
        found[variable.name] = replace(variable, secret=hidden)
    return found


def _require(options: Options, place: Place, handler: str, variable: Variable, facts: Facts) -> None:
    if variable.required and not _has_value(options, place, variable, facts):
        raise DeployError(
            f"{handler} needs {variable.name}, which has no value: "
            f"write {variable.name}=… into {options.env_file}"
        )


def _has_value(options: Options, place: Place, variable: Variable, facts: Facts) -> bool:
    stored = variable.secret and place.variable(variable.name) in facts.versions
    return bool(options.variables.get(variable.name)) or stored


def _secrets(place: Place, variables: Mapping[str, Variable]) -> Iterator[Resource]:
    stored = [place.variable(name) for name, variable in variables.items() if variable.secret]
    for name in (place.secret, *stored):
        yield Resource("secret", name, {"labels": {OURS: place.name}})


def _functions(
    options: Options,
    place: Place,
    handlers: Sequence[Declared],
    variables: Mapping[str, Variable],
    facts: Facts,
) -> Iterator[Resource]:
    for function in (CONSUME, RECEIVE) if options.pubsub else (RECEIVE,):
        runs = function == runs_handlers(options)
        theirs = variables if runs else {}
        plain = {name: options.variables[name] for name, v in theirs.items() if not v.secret}
        plain |= handlers_variable(handlers) if function == CONSUME else {}
        plain |= ledger.environment(options, place, handlers) if runs else {}
        config = {
            "environmentVariables": {**plain, **environment(options, place, function)},
            "secretEnvironmentVariables": _mounted(place, theirs, facts),
            "secretVolumes": _volumes(place, facts) if function == RECEIVE else [],
            "serviceAccountEmail": place.account(function),
            "availableMemory": "1Gi",
            "availableCpu": "1",
            "timeoutSeconds": 60,
            "maxInstanceRequestConcurrency": 40,
            "minInstanceCount": options.min_instances if function == RECEIVE else 0,
            "maxInstanceCount": options.max_instances,
            "ingressSettings": "ALLOW_ALL" if function == RECEIVE else "ALLOW_INTERNAL_ONLY",
        }
        yield Resource(
            "function", place.called(function), {**_built(place, function), "serviceConfig": config}
        )


def _mounted(place: Place, variables: Mapping[str, Variable], facts: Facts) -> list[dict[str, str]]:
    """The secrets among the variables: by number, for `latest` is what it was for hours."""
    secrets = {name: place.variable(name) for name, variable in variables.items() if variable.secret}
    return [
        {
            "key": name,
            "secret": secret,
            "version": facts.versions.get(secret, "1"),
        }
        for name, secret in sorted(secrets.items())
    ]


def _volumes(place: Place, facts: Facts) -> list[dict[str, Any]]:
    """The webhook secret, by number too."""
    versions = [{"path": SECRET_FILE, "version": facts.versions.get(place.secret, "1")}]
    return [{"mountPath": SECRET_FOLDER, "secret": place.secret, "versions": versions}]


def _built(place: Place, function: str) -> dict[str, Any]:
    build = {
        "entryPoint": function,
        "runtime": RUNTIME,
        "serviceAccount": f"projects/{place.project}/serviceAccounts/{place.account('build')}",
        "dockerRepository": place.repository,
        # Makes the buildpack's bytecode valid by content: every file of an image is from 1980.
        "environmentVariables": {"SOURCE_DATE_EPOCH": "315532800"},
    }
    return {"buildConfig": build, "labels": {OURS: place.name}, "state": "ACTIVE"}


def _services(options: Options, place: Place, facts: Facts) -> Iterator[Resource]:
    """What Cloud Run alone knows of a function: whom it lets in, which revision serves, what is mounted."""
    if options.pubsub:
        yield Resource("service", place.called(CONSUME), {"invokerIamDisabled": False, "serves": "latest"})
    opened = options.public == "no-check"
    version = facts.versions.get(place.secret, "1")
    wanted = {"invokerIamDisabled": opened, "serves": "latest", "secretVersion": version}
    yield Resource("service", place.called(RECEIVE), wanted)


def _bindings(
    options: Options, place: Place, variables: Mapping[str, Variable], pushed: Sequence[Resource]
) -> Iterator[Binding]:
    """The least that works."""
    build, receive = place.member("build"), place.member(RECEIVE)
    for role in BUILD_ROLES:
        yield Binding("project", place.project, role, build)
    yield Binding("repository", place.name, WRITER, build)
    yield Binding("secret", place.secret, ACCESSOR, receive)
    for name, variable in variables.items():
        if variable.secret:
            yield Binding("secret", place.variable(name), ACCESSOR, place.member(runs_handlers(options)))
    yield Binding("topic", place.called("rejected"), PUBLISHER, receive)
    if options.pubsub:
        yield from _pubsub_bindings(place, pushed)
    if options.public == "iam":
        yield Binding("service", place.called(RECEIVE), INVOKER, EVERYBODY)


def _pubsub_bindings(place: Place, pushed: Sequence[Resource]) -> Iterator[Binding]:
    yield Binding("topic", place.called("rejected"), PUBLISHER, place.member(CONSUME))
    yield Binding("topic", place.called("events"), PUBLISHER, place.member(RECEIVE))
    yield Binding("topic", place.called("dead-letters"), PUBLISHER, place.agent)
    # Projects from before April 2021 lack it: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
    yield Binding("account", place.account("push"), TOKEN_CREATOR, place.agent)
    yield Binding("service", place.called(CONSUME), INVOKER, place.member("push"))
    for resource in pushed:
        yield Binding("subscription", resource.name, SUBSCRIBER, place.agent)
