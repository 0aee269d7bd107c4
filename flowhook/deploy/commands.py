"""`./deploy.sh COMMAND`: each from its options to its exit status."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flowhook.deploy import (
    audit,
    comparison,
    dashboard,
    deletion,
    deployment,
    diff,
    kept,
    options,
    pausing,
    replay,
    retirement,
    rollback,
    rotation,
    secrets,
    tail,
)
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError
from flowhook.deploy.options import Options, UsageWanted
from flowhook.deploy.resources import RECEIVE
from flowhook.deploy.run import Deployment, agreed, opened, operating
from flowhook.deploy.surroundings import Row, Surroundings, Visit

# What a running receiver is given to answer, where nothing has just been changed.
NO_CHANGE_PATIENCE = 120.0
INTERRUPTED = 130


def main(words: Sequence[str], around: Surroundings) -> int:
    """Run a command and return its exit status: 0 where all is as it should be, 1 where not."""
    try:
        wanted = options.read(words)
        return COMMANDS[wanted.command](wanted, around)
    except UsageWanted as usage:
        around.show(str(usage).rstrip("\n"))
        return 0
    except DeployError as error:
        around.tell(f"deploy.sh: {error}")
        return 1
    except KeyboardInterrupt:
        around.tell("Interrupted. Run it again: it goes on where it stopped.")
        return INTERRUPTED


def deploy(wanted: Options, around: Surroundings) -> int:
    """Make what is missing, change what differs, deploy, and prove that it works."""
    new_secret = secrets.chosen(wanted)
    run = opened(wanted, around)
    deployment.check(run)
    run.read()
    deployment.check_topics(run)
    check_secret(run, new_secret)
    if wanted.dry_run:
        show_plan(run)
        return 0
    place = run.place
    agreed(
        run,
        f"Deploy {place.name} to project {place.project}, region {place.region}, delivery {wanted.delivery}?",
    )
    deployment.enable_apis(run)
    deployment.carry_out(run, new_secret)
    run.read()
    status = prove(run, PATIENCE)
    if not wanted.notification_email and not wanted.notification_channel:
        around.tell("The alerts tell nobody: give NOTIFICATION_EMAIL in the env file.")
    if status and rollback.possible(run):
        around.tell("./deploy.sh rollback takes the traffic back to the revisions from before.")
    return status


def status(wanted: Options, around: Surroundings) -> int:
    """Compare what is there with what should be, and send the doctor's events."""
    run = opened(wanted, around)
    run.handlers = around.declared(around.folder)
    run.read()
    if run.place.secret not in run.state.versions:
        raise DeployError("there is no secret: ./deploy.sh")
    return prove(run, NO_CHANGE_PATIENCE)


def check_secret(run: Deployment, new_secret: bytes) -> None:
    """Refuse another secret than the one that is accepted: that is a rotation."""
    version = run.state.versions.get(run.place.secret)
    if version is None or not run.options.secret_file:
        return
    if new_secret not in secrets.read(run.api, run.place, run.place.secret, version).accepted:
        given = run.options.secret_file
        raise DeployError(f"there is a secret already: ./deploy.sh rotate-secret --secret-file {given}")


def show_plan(run: Deployment) -> None:
    """Say what a deployment would do; nothing is changed."""
    plan = run.plan()
    todo = {
        "enable": run.missing_apis(),
        "changes": [str(change) for change in run.changes() if is_shown(change)],
        "grants": [str(grant.binding) for grant in diff.grants(plan, run.state.policies)],
        "retire": [*retirement.orphans(run)],
        "supersede": [*retirement.superseded(run)],
        "deploy": [resource.name for resource in plan.of("function")],
        "elsewhere": [*run.state.elsewhere],
    }
    if run.options.json:
        run.around.show(json.dumps({**where(run), **todo}, indent=2))
        return
    for verb, things in todo.items():
        for thing in things:
            run.around.show(thing if verb == "changes" else f"{SHOWN.get(verb, verb)} {thing}")
    run.tell("This was a dry run: nothing has been changed.")


def is_shown(change: diff.Change) -> bool:
    """Whether a change is one by itself: functions, and what they bring with them, are deployed each time."""
    return change.resource.kind not in ("function", "service") or change.action == "change"


SHOWN = {
    "grants": "grant",
    "retire": "let work off and remove, if somebody says so, subscription",
    "supersede": "let work off and remove subscription",
    "elsewhere": "remove, if somebody says so, function",
}


def where(run: Deployment) -> Mapping[str, str]:
    """What a report is about."""
    place = run.place
    return {
        "project": place.project,
        "region": place.region,
        "name": place.name,
        "delivery": run.options.delivery,
    }


def prove(run: Deployment, patience: float) -> int:
    """Show what is there, and send the doctor through it. Gives 0 if all is well."""
    paused = list(pausing.rows(run))
    for row in paused:
        run.tell(f"{row.what}: {row.seen}")
    rows = [*comparison.rows(run.plan(), run.state, run.place), *paused]
    url = address(run)
    rows += run.around.doctor.examine(visit(run, url, patience if run.changed else NO_CHANGE_PATIENCE))
    well = all(row.ok for row in rows)
    if run.options.json:
        run.around.show(report(run, rows, url))
    else:
        run.around.doctor.report(rows, url)
        run.tell(f"Dashboard: {dashboard.link(run.place)}")
    if not well:
        page = f"{run.place.region}/{run.place.called(RECEIVE)}/logs?project={run.place.project}"
        run.tell(
            "deploy.sh: not everything is well; the table says what. Logs:\n"
            f"https://console.cloud.google.com/run/detail/{page}"
        )
    return 0 if well else 1


def report(run: Deployment, rows: Sequence[Row], url: str) -> str:
    """The same for a program."""
    checks = [{"what": row.what, "ok": row.ok, "seen": row.seen} for row in rows]
    found = {"url": url, "dashboard": dashboard.link(run.place), "ok": all(row.ok for row in rows)}
    return json.dumps({**where(run), **found, "checks": checks}, indent=2)


def address(run: Deployment) -> str:
    """Where Flows is to send. Raises DeployError where nothing is deployed."""
    name = run.place.called(RECEIVE)
    found = run.state.found.get(("function", name), {})
    url: str = found.get("serviceConfig", {}).get("uri", "")
    if not url:
        raise DeployError(f"{name} is not deployed in {run.place.region}: ./deploy.sh")
    return url


def visit(run: Deployment, url: str, patience: float) -> Visit:
    """What the doctor needs to know; he signs with the newest secret that is accepted."""
    version = run.state.versions[run.place.secret]
    accepted = secrets.read(run.api, run.place, run.place.secret, version).accepted
    if not accepted:
        raise DeployError(f"version {version} of {run.place.secret} is empty: ./deploy.sh rotate-secret")
    auth = run.options.settings.get("WEBHOOK_AUTH", "auto") or "auto"
    return Visit(
        run.api,
        run.place,
        url,
        "bearer" if auth == "auto" else auth,
        accepted[0],
        run.options.pubsub,
        patience,
    )


def rotate(wanted: Options, around: Surroundings) -> int:
    """Have another secret accepted, or one no more."""
    chosen = b"" if wanted.finish else secrets.chosen(wanted)
    run = opened(wanted, around)
    rotation.rotate(run, chosen)
    return 0


def roll_back(wanted: Options, around: Surroundings) -> int:
    """Have the revisions from before serve."""
    run = opened(wanted, around)
    rollback.roll_back(run)
    return 0


def delete(wanted: Options, around: Surroundings) -> int:
    """Remove everything."""
    run = opened(replace(wanted, delivery="pubsub"), around)
    deletion.delete(run)
    return 0


def pause(wanted: Options, around: Surroundings) -> int:
    """Push nothing to a handler for the time being."""
    pausing.pause(opened(wanted, around))
    return 0


def resume(wanted: Options, around: Surroundings) -> int:
    """Push to it again."""
    pausing.resume(opened(wanted, around))
    return 0


def letters(wanted: Options, around: Surroundings) -> int:
    """Look at what is kept, send it again, export or drop it."""
    kept.act(operating(wanted, around), wanted.command)
    return 0


def send_again(wanted: Options, around: Surroundings) -> int:
    """Send a handler the events of a time again."""
    replay.replay(operating(wanted, around))
    return 0


def audited(wanted: Options, around: Surroundings) -> int:
    """Tell whether anything was lost."""
    return 0 if audit.audit(operating(wanted, around)) else 1


def follow(wanted: Options, around: Surroundings) -> int:
    """Show deliveries until somebody ends it, or nobody reads them any more."""
    try:
        tail.tail(operating(wanted, around))
    except (KeyboardInterrupt, BrokenPipeError):
        return 0


COMMANDS: Mapping[str, Callable[[Options, Surroundings], int]] = {
    "deploy": deploy,
    "status": status,
    "rotate-secret": rotate,
    "rollback": roll_back,
    "delete": delete,
    "pause": pause,
    "resume": resume,
    "replay": send_again,
    "dead-letters": letters,
    "rejected": letters,
    "audit": audited,
    "tail": follow,
}
