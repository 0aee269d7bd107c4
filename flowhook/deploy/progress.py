"""How far sending has come: one line that is rewritten where somebody watches, else a line a request."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowhook.deploy.run import Deployment

WIDTH = 24


@contextmanager
def shown(run: Deployment, total: int, at_least: str = "") -> Iterator[Callable[[int], None]]:
    """Gives what shows that so many of `total` have been sent; `at_least` says that there may be more."""
    started, bar = run.api.clock.now(), run.around.bar

    def show(count: int) -> None:
        told = f"{count} of {at_least}{total} sent"
        if bar is None:
            run.tell(told)
        else:
            bar(f"{drawn(count, total)}  {told}{_pace(count, total, run.api.clock.now() - started)}")

    try:
        yield show
    finally:
        if bar is not None:
            bar("")


def drawn(count: int, total: int) -> str:
    """A bar and the hundredths. Only what is whole is 100 %, and what is beyond it is no more than that."""
    share = min(1.0, count / total)
    full = int(share * WIDTH)
    return f"[{'#' * full}{'.' * (WIDTH - full)}] {int(share * 100):3} %"


def _pace(count: int, total: int, seconds: float) -> str:
    """How many a second, and for how long still; nothing before there is anything to go by."""
    if not count or seconds <= 0:
        return ""
    rate = count / seconds
    return f", {rate:.0f} a second, {math.ceil(max(0, total - count) / rate)} s left"
