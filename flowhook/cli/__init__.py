"""The command line: a module a command, with `add_arguments(parser)` and `run(arguments)`, the status."""

import argparse
import sys
from collections.abc import Sequence

from flowhook.cli import capture, check, doctor, flows_emulator, handlers, pubsub, run, send, subscriptions
from flowhook.cli.errors import CommandError

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 not done, 2 called with wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m flowhook", description="The command line of flowhook.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except CommandError as error:
        print(f"flowhook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status
