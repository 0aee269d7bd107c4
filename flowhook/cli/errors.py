"""What ends a command."""


class CommandError(Exception):
    """Says what went wrong and what to do next; the command ends with status 1."""
