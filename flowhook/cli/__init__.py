"""The command line: each command is a module with `add_arguments(parser)` and `run(arguments)`."""

import argparse
import sys
from collections.abc import Sequence

from flowhook.cli import (
    capture,
    check,
    deploy,
    doctor,
    flows_emulator,
    handlers,
    pubsub,
    run,
    send,
    subscriptions,
)
from flowhook.cli.errors import CommandError
from flowhook.version import VERSION

COMMANDS = {
    "run": run,
    "pubsub": pubsub,
    "send": send,
    "emulate": flows_emulator,
    "check": check,
    "capture": capture,
    "handlers": handlers,
    "subscriptions": subscriptions,
    "doctor": doctor,
}


FIRST = """\
flowhook receives the webhooks of Flows. To begin with, each in a terminal of its own:

  python -m flowhook run          serve the receiver on this machine
  python -m flowhook send --all   send it an event of each type
  python -m flowhook emulate      send them as Flows does, from a page

Every command: python -m flowhook --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 not done, 2 called with wrong arguments."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["deploy"]:
        # This command parses commands and options of its own.
        return deploy.run(words[1:])
    parsed = parser().parse_args(words)
    try:
        status: int = parsed.run(parsed)
    except CommandError as error:
        print(f"flowhook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """The parser of a command line; the `run` of what it parsed executes the command."""
    whole = argparse.ArgumentParser(prog="python -m flowhook", description="The command line of flowhook.")
    whole.add_argument("--version", action="version", version=f"flowhook {VERSION}")
    whole.set_defaults(run=_show_first)
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary, _, description = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=f"{summary}\n{description}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    commands.add_parser("deploy", help=(deploy.__doc__ or "").partition("\n")[0].rstrip("."))
    return whole


def _show_first(_: argparse.Namespace) -> int:
    print(FIRST)
    return 0
