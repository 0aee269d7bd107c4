"""Python runs this at the start of what the tests start, where coverage is measured.

A worker of uvicorn ends by raising the signal that it was stopped with, whose default action ends the process
without `atexit`. So what was measured is saved before.
"""

import signal

import coverage

raise_signal = signal.raise_signal


def save_first(number: int) -> None:
    """Raise the signal, once nothing is lost by it."""
    if measured := coverage.Coverage.current():
        measured.stop()
        measured.save()
    raise_signal(number)


signal.raise_signal = save_first
