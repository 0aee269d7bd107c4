"""Deploys an installation, in an order in which no event is lost.

1. Subscriptions of removed handlers are drained while the old `consume` still has these handlers.
2. `consume` is deployed, and Pub/Sub is granted the right to invoke it.
3. New subscriptions begin to push, once a first push has been seen to arrive in `consume`.
4. `receive` is deployed and made public.
5. What is no longer planned is deleted.
"""

from collections.abc import Iterable

from flowhook.deploy import (
    declared,
    diff,
    functions,
    ledger,
    lock,
    plan,
    probing,
    project,
    retirement,
    secrets,
    services,
    source,
    state,
)
from flowhook.deploy.declared import Declared
from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.resources import CONSUME, RECEIVE, Binding
from flowhook.deploy.run import Deployment

# What Pub/Sub reports as the topic of a subscription whose topic has been deleted:
# https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions#Subscription
DELETED_TOPIC = "_deleted-topic_"


def check(run: Deployment) -> None:
    """Check the source, the handlers' tests and the project's billing, before anything is changed.

    Sets `run.handlers` to the handlers of the source. Raises DeployError for the first mistake.
    """
    run.handlers = run.around.declared(run.around.folder)
    source.requirements(run.around.folder)
    ledger.check_package(run.options, run.handlers, run.around.folder)
    settings = plan.environment(run.options, run.place, CONSUME)
    run.around.check_source(run.around.folder, settings)
    if not run.options.skip_tests:
        run.around.check_tests(run.around.folder)
    project.check_billing(run.api.billed_to(""), run.place)


def check_topics(run: Deployment) -> None:
    """Raise DeployError where the topic of a subscription has been deleted by hand.

    Such a subscription can't get another topic, and must be deleted. Messages that somebody needs may still
    wait in it, so the error asks the user to look at them and to delete it.
    """
    ours = run.state.ours("subscription", run.place)
    if lost := sorted(name for name, found in ours.items() if found.get("topic") == DELETED_TOPIC):
        raise DeployError(
            f"the topic of {', '.join(lost)} has been deleted, and a subscription never gets another one. "
            "Look at what still waits there, then\n"
            f"gcloud pubsub subscriptions delete {' '.join(lost)} --project={run.place.project}\n"
            "and run this again"
        )


def enable_apis(run: Deployment) -> None:
    """Enable the APIs that are missing, and with Pub/Sub delivery create Pub/Sub's service agent."""
    bootstrap = run.api.billed_to("")
    if missing := run.missing_apis():
        run.tell(f"enable {', '.join(missing)}")
        project.enable(bootstrap, run.place, missing)
        run.changed = True
        run.state.apis = project.enabled(bootstrap, run.place) | set(missing)
    if run.options.pubsub:
        project.ensure_pubsub_agent(bootstrap, run.place)


def carry_out(run: Deployment, new_secret: bytes) -> None:
    """Create, update and delete resources until what exists is as planned.

    `new_secret` becomes the webhook secret where there is none yet. The whole runs under the deployment lock.
    Raises DeployError; the next deployment then goes on from what exists.
    """
    with lock.held(run.api, run.place, run.options.break_lock):
        run.read()
        run.is_new_here = ("function", run.place.called(RECEIVE)) not in run.state.found
        create_resources(run, new_secret)
        with source.staged(run.around.folder) as folder:
            if run.options.pubsub:
                retirement.retire_handlers(run)
                deploy_function(run, CONSUME, lambda command: run.around.gcloud(command, folder))
                run.allow_these(_missing(run, "service", CONSUME))
                start_pushing(run)
            deploy_function(run, RECEIVE, lambda command: run.around.gcloud(command, folder))
        make_receive_public(run)
        run.apply("channel")
        run.apply("alert")
        run.apply("dashboard")
        retirement.remove_unplanned(run)


def create_resources(run: Deployment, new_secret: bytes) -> None:
    """Create or update everything that the functions need, and grant the roles on it.

    New subscriptions don't push yet, so messages that are published meanwhile wait in them.
    """
    # The metric counts what is answered from its creation on, so it is there before `receive`.
    run.apply("account", "topic", "repository", "secret", "database", "metric")
    if ledger.is_needed(run.options, run.handlers):
        ledger.enable_ttl(run.api, run.place)
    store_secrets(run, new_secret)
    run.apply("subscription", but=("pushConfig",))
    retirement.label_successors(run)
    run.allow("account", "project", "repository", "secret", "topic", "subscription")


def store_secrets(run: Deployment, new_secret: bytes) -> None:
    """Add a version to each secret that has none, or another value than the env file has for it."""
    versions, place = run.state.versions, run.place
    if place.secret not in versions:
        versions[place.secret] = secrets.add(run.api, place, place.secret, new_secret).number
        run.changed = True
        if not run.options.secret_file:
            show_secret(run, new_secret)
    names = {variable.name: place.variable(variable.name) for variable in secret_variables(run.handlers)}
    for secret, value in secrets.values(run.options, names).items():
        versions[secret] = secrets.add(run.api, place, secret, value).number


def secret_variables(handlers: Iterable[Declared]) -> list[declared.Variable]:
    """Return the variables that handlers declare as secret."""
    return [v for handler in handlers for v in handler.variables or () if v.secret]


def show_secret(run: Deployment, secret: bytes) -> None:
    """Show a new webhook secret to the user, who must enter it in Flows.

    It is printed where standard output is a terminal, else written to a file that only its owner can read.
    """
    where = "In Flows: Settings > Integrations > Webhook settings > Secret."
    if run.around.on_a_terminal():
        run.around.show(f"\nThe secret, shown this once. {where}\n\n    {secret.decode()}\n")
        return
    path = run.around.folder / f".env.secret.{run.place.project}.{run.place.name}"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(secret + b"\n")
    run.tell(f"The secret is in {path}, for nobody watches; remove that file when Flows has it. {where}")


def deploy_function(run: Deployment, target: str, build: functions.Build) -> None:
    """Build and deploy the function `target`; `build` runs gcloud on the source. Raises DeployError."""
    name = run.place.called(target)
    resource = next(r for r in run.plan().of("function") if r.name == name)
    run.tell(f"deploy {name} (some minutes)")
    run.state.found[resource.key] = functions.deploy(run.api, run.place, resource, build, run.granted_at)
    service = services.read(run.api, run.place, target)
    run.state.found["service", name] = services.described(service)
    state.read_these(run.api, run.place, run.state, [("service", name)])
    run.changed = True


def _missing(run: Deployment, kind: str, target: str) -> list[Binding]:
    """Return the planned bindings on a resource of this installation that its policy doesn't have yet."""
    grants = diff.grants(run.plan(), run.state.policies)
    return [grant.binding for grant in grants if grant.binding.target == (kind, run.place.called(target))]


def start_pushing(run: Deployment) -> None:
    """Have the subscriptions push to `consume`: those of handlers only after a test push has arrived.

    The test push goes to the handler of the `doctor` command. Grants take some minutes to take effect, and
    Pub/Sub counts each push that is refused until then: with `attempts=5`, a handler's first events would
    become dead letters. Raises DeployError where no push arrives.
    """
    waiting = [c for c in run.changes() if c.resource.kind == "subscription" and "pushConfig" in c.paths]
    if not waiting:
        return
    doctors = [c for c in waiting if plan.handler_of(run.place, c.resource.name) == plan.DOCTOR.name]
    run.do(doctors)
    probing.wait_for_push(run.api, run.place)
    run.do(change for change in waiting if change not in doctors)


def make_receive_public(run: Deployment) -> None:
    """Let everybody invoke `receive`, because Flows has no Google identity. Writes only what differs.

    Raises DeployError where a policy of the organization forbids it.
    """
    name = run.place.called(RECEIVE)
    service = next(r for r in run.plan().of("service") if r.name == name)
    wanted = service.wanted["invokerIamDisabled"]
    if bool(run.state.found[service.key].get("invokerIamDisabled")) != wanted:
        run.tell(f"{'no check' if wanted else 'check'} of who calls {name}")
        changed = services.change(
            run.api, run.place, RECEIVE, "invokerIamDisabled", lambda _now: {"invokerIamDisabled": wanted}
        )
        run.state.found[service.key] = services.described(changed)
        run.changed = True
    try:
        run.allow_these(_missing(run, "service", RECEIVE))
    except Refusal as refusal:
        if refusal.status in (400, 412) and refusal.reason is None:
            raise DeployError(_forbidden(run, refusal)) from None
        raise


def _forbidden(run: Deployment, refusal: Refusal) -> str:
    return (
        f"{run.place.called(RECEIVE)} must be open to everybody, for Flows has no Google identity, and a "
        "policy of your organization forbids allUsers.\nGive --public no-check (PUBLIC=no-check in the env "
        f"file), which Google recommends for that, or let an administrator exempt project {run.place.project}"
        " from\n"
        f"{functions.ORGANIZATION}, and run this again.\n{refusal}"
    )
