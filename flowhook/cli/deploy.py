"""Deploy to Google Cloud, and look after what is deployed: what ./deploy.sh starts.

`./deploy.sh --help` says which commands and options there are.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flowhook.cli import doctor
from flowhook.cli.errors import CommandError
from flowhook.deploy import commands
from flowhook.deploy.errors import DeployError
from flowhook.deploy.surroundings import Row, Surroundings, Visit
from flowhook.deploy.terminal import Terminal, is_watched


def run(words: Sequence[str]) -> int:
    """Run one of the commands. SIGTERM interrupts it as Ctrl-C does, so that it can clean up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return commands.main(words, surroundings())


def surroundings() -> Surroundings:
    """Those of this process: with a bar where standard error is a terminal."""
    if not is_watched(sys.stderr):
        return Surroundings(Path.cwd(), ByHttp())
    terminal = Terminal(sys.stderr)
    return Surroundings(Path.cwd(), ByHttp(), tell=terminal.tell, bar=terminal.bar)


class ByHttp:
    """Examines a deployment with the command line's doctor."""

    def examine(self, visit: Visit) -> list[Row]:
        """Send events and return a row for each check. Raises DeployError if nothing answers."""
        place = visit.place
        try:
            with doctor.Receiver(visit.url, doctor.scheme_of(visit.auth), visit.secret) as receiver:
                topics = doctor.Topics(
                    visit.api, place, place.called("events") if visit.pubsub else "", place.called("rejected")
                )
                return [*doctor.examine(receiver, topics, visit.patience)]
        except CommandError as error:
            raise DeployError(str(error)) from None

    def report(self, rows: Sequence[Row], url: str) -> None:
        """Show the table."""
        doctor.report(rows, url)
