"""What `./deploy.sh COMMAND --help` says, and which options each command takes."""

from typing import NamedTuple


class Usage(NamedTuple):
    """A command's text, and its options: those with a value, those without, those without a name."""

    text: str
    valued: tuple[str, ...]
    flags: tuple[str, ...] = ()
    # What is given without a name, in this order; a question mark is after what may be missing.
    positional: tuple[str, ...] = ()


WHERE = ("project", "region", "name", "env-file")
PLACE = "[--project P] [--region R] [--name N] [--env-file FILE]"

SELECTION = "[--handler H] [--type T] [--entity PATH] [--reason R] [--since T] [--to T]"
SELECTING = ("handler", "type", "entity", "reason", "since", "from", "to")


def _letters(command: str, summary: str, redrive: str) -> Usage:
    """The usage of a command that acts on what is stored in a topic of its own."""
    return Usage(
        f"""Usage: ./deploy.sh {command} list | show ID | redrive | export | drop
       {PLACE} {SELECTION}
       [--as HANDLER] [--again] [--body] [--output FILE] [--json] [--dry-run] [--yes] [--emulator]

{summary}

  list                 a line of each; Pub/Sub can't browse, so it may not be all: n seen of about m
  show ID              its attributes, and with --body its body
  redrive              {redrive}
  export               into a file, bodies included
  drop                 export, then remove

  --handler H, --type packets.*, --entity PATH, --reason R, --since 2h or a time (or --from), --to T
                       only those; so does an ID after any of the commands
  --as HANDLER         send to this handler, after a rename
  --again              run it although the ledger of once=True has it as done
  --output FILE        where to export to; it must not exist
  --emulator           act on the emulator at PUBSUB_EMULATOR_HOST
""",
        (*WHERE, *SELECTING, "as", "output"),
        ("again", "body", "json", "dry-run", "yes", "emulator"),
        ("action", "id?"),
    )


USAGE = {
    "deploy": Usage(
        """Usage: ./deploy.sh [--project P] [--region R] [--name N] [--delivery D] [--dry-run] [--yes] ...
       ./deploy.sh status | rotate-secret | rollback | delete [--help]
       ./deploy.sh pause | resume | replay | dead-letters | rejected | audit | tail [--help]

Makes what is missing, changes what differs, deploys, and proves that it works. Run it again at any time.

  --project P          its id or number; default: that of gcloud's configuration
  --region R           default: europe-west1
  --name N             how everything is called; default: flowhook
  --env-file FILE      settings; default: .env.deploy
  --delivery D         pubsub (the default) or inline: how events get to the handlers
  --public P           how Flows gets in: iam (the default) lets allUsers call receive, no-check turns Cloud
                       Run's check of receive off, for organizations that forbid allUsers
  --secret-file FILE   the secret that Flows has, for the first deployment; - is standard input. Without it a
                       strong one is generated, and printed once
  --allow-weak-secret  take one of fewer than 16 characters
  --skip-tests         don't run the tests of the handlers before (make test-handlers)
  --prune              remove the subscriptions of handlers that are gone, and functions in other regions,
                       without asking
  --drain-minutes M    how long a handler that goes away may still work off its events; default: 10
  --dry-run            change nothing, say what would be done
  --json               say it as JSON
  --yes                don't ask before the first change
  --break-lock         go on although another deployment seems to be under way

Each is also a line of the env file: PROJECT, REGION, NAME, DELIVERY, PUBLIC, MIN_INSTANCES, MAX_INSTANCES,
NOTIFICATION_EMAIL, RETENTION_DAYS, DRAIN_MINUTES. A setting of flowhook there, EVENTS for example, is for
both functions; every other VARIABLE=value is for the handlers.
""",
        (*WHERE, "delivery", "public", "secret-file", "drain-minutes"),
        ("allow-weak-secret", "prune", "skip-tests", "dry-run", "json", "yes", "break-lock"),
    ),
    "status": Usage(
        f"""Usage: ./deploy.sh status {PLACE} [--json]
       [--delivery D] [--public P]

Compares what is there with what should be, and sends the doctor's events. Exit status 1 if anything is wrong.
""",
        (*WHERE, "delivery", "public"),
        ("json",),
    ),
    "rotate-secret": Usage(
        f"""Usage: ./deploy.sh rotate-secret [--finish] [--secret-file FILE] [--allow-weak-secret]
       {PLACE} [--dry-run] [--break-lock]

Has receive accept a new secret, generated or from FILE (-: standard input), beside the old one, and prints it
once it is accepted everywhere. When Flows has it, run this again with --finish: the old one is then refused.
What is deployed stays as it is; nothing of this folder is.
""",
        (*WHERE, "secret-file"),
        ("allow-weak-secret", "finish", "dry-run", "break-lock"),
    ),
    "rollback": Usage(
        f"""Usage: ./deploy.sh rollback {PLACE} [--dry-run] [--yes]
       [--break-lock]

Sends all traffic to the revisions before the present ones, consume first. The next deployment ends it.
""",
        WHERE,
        ("dry-run", "yes", "break-lock"),
    ),
    "delete": Usage(
        f"""Usage: ./deploy.sh delete [--all] [--dry-run] [--yes] [--break-lock]
       {PLACE}

Lists what is there, asks, and deletes it. Secrets, ledger and dead letters stay, unless --all is given.
""",
        WHERE,
        ("all", "dry-run", "yes", "break-lock"),
    ),
    "pause": Usage(
        f"""Usage: ./deploy.sh pause HANDLER {PLACE}
       [--break-lock]

Nothing is pushed to this handler any more; the others run on. What arrives for it waits as long as its
subscription keeps it (RETENTION_DAYS). Deployments leave it paused.
""",
        WHERE,
        ("break-lock",),
        ("handler",),
    ),
    "resume": Usage(
        f"""Usage: ./deploy.sh resume HANDLER {PLACE}
       [--break-lock]

Pushes to a paused handler again: first what has waited.
""",
        WHERE,
        ("break-lock",),
        ("handler",),
    ),
    "dead-letters": _letters(
        "dead-letters",
        "What handlers have given up on, for 31 days.",
        "send each to the handler that failed, and to no other; it goes when it is sent",
    ),
    "rejected": _letters(
        "rejected",
        "Bodies that are no events, and events that a handler rejected, for 31 days.",
        "parse each again, and send it to the handler that rejected it, else to all",
    ),
    "replay": Usage(
        f"""Usage: ./deploy.sh replay HANDLER --since 2h [--to T] [--type packets.*] [--entity PATH]
       ./deploy.sh replay HANDLER --file EXPORT [--of HANDLER] [--again] [--since T] [--to T] [--type T] ...
       {PLACE} [--dry-run] [--yes] [--emulator]

Sends the events of a time to this handler again, and to no other, as far as the topic still has them
(RETENTION_DAYS), or those of an export. A handler with once=True runs once more for each, once a replay.
Interrupted, run it again with the same words: it goes on.

  --since 2h           2 hours ago, or a time (2026-05-01T08:00Z); --from is the same
  --to T               until then; default: now
  --file EXPORT        the letters of this file, which dead-letters export or rejected export has written; a
                       file beside it notes which of them are sent
  --of HANDLER         those of this handler, after a rename; default: the one that they are sent to
  --again              send a file once more that has been sent whole
  --emulator           act on the emulator at PUBSUB_EMULATOR_HOST
""",
        (*WHERE, "type", "entity", "since", "from", "to", "file", "of"),
        ("dry-run", "yes", "again", "emulator"),
        ("handler",),
    ),
    "audit": Usage(
        f"""Usage: ./deploy.sh audit [--since 24h] [--to T] [--json]
       {PLACE}

Was anything lost? Compares what receive has answered with what Pub/Sub has counted, and looks for events that
waited until they were dropped. Exit status 1 where something is missing, or where there is no data to tell.

  --since 24h          24 hours ago (the default), or a time (2026-05-01T08:00Z); --from is the same
  --to T               until then; the last 10 minutes are never measured yet
""",
        (*WHERE, "since", "from", "to"),
        ("json",),
    ),
    "tail": Usage(
        f"""Usage: ./deploy.sh tail [--handler H] [--type packets.*] [--failed]
       {PLACE}

Shows deliveries as they happen, a line each, those of the last minute first. Ctrl-C ends it.

  --handler H          those that this handler was called for, with Pub/Sub delivery or without
  --type packets.*     those of events of this type
  --failed             what was refused, failed, or was rejected by a handler
""",
        (*WHERE, "handler", "type"),
        ("failed",),
    ),
}
