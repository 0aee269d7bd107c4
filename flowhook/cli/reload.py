"""Serves an entry point of main.py, and restarts the server when a handler or `.env` changes.

The socket is open in this process, which passes it to each server, so no connection is refused between two
servers: clients only wait. New code is first imported in a process of its own; while that fails, the old
server continues.
"""

import hashlib
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

HANDLERS, SETTINGS = Path("handlers"), Path(".env")
# Seconds. An editor saves in several steps, which are one change if they follow each other within this time.
QUIET = 0.2
# Seconds to wait for a starting server's answer before it is asked again.
LOOK_AGAIN = 0.5
# The events that are changes; the observer also reports that a file is read, which every import does.
CHANGES = {"created", "deleted", "modified", "moved"}
# gunicorn accepts a socket as systemd passes it: as descriptor 3, to the process with the id LISTEN_PID.
TAKE_SOCKET = 'export LISTEN_FDS=1 LISTEN_PID=$$; descriptor=$1; shift; exec "$@" 3<&"$descriptor"'

Environment = Callable[[], Mapping[str, str]]
News = Queue[subprocess.Popen[bytes] | None]
"""A server that has ended, or None for a change."""


def serve(
    start: Sequence[str], environment: Environment, door: socket.socket, ready: Callable[[], None]
) -> int:
    """Serve until the server ends by itself, and return its status; `ready` is called once it answers.

    `start` is the framework's command, `environment` is called anew for each start of it.
    """
    news: News = Queue()
    seen = _fingerprint()
    with _watching(news):
        server = _start(start, environment(), door, news)
        try:
            if _answers(server, door):
                ready()
            while not _ended(server, news):
                before, seen = seen, _fingerprint()
                if before != seen and _imports(_changed(before, seen), environment()):
                    _stop(server)
                    server = _start(start, environment(), door, news)
        finally:
            _stop(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _start(
    start: Sequence[str], environment: Mapping[str, str], door: socket.socket, news: News
) -> subprocess.Popen[bytes]:
    descriptor = door.fileno()
    server = subprocess.Popen(  # noqa: S603 - it is this Python
        ["/bin/sh", "-c", TAKE_SOCKET, "sh", str(descriptor), *start],
        env=environment,
        pass_fds=[descriptor],
    )

    def tell() -> None:
        server.wait()
        news.put(server)

    threading.Thread(target=tell, daemon=True).start()
    return server


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait()


def _answers(server: subprocess.Popen[bytes], door: socket.socket) -> bool:
    """Wait until the server answers; False if it ends instead."""
    host, port = door.getsockname()[:2]
    while server.poll() is None:
        connection = http.client.HTTPConnection(host, port, timeout=LOOK_AGAIN)
        try:
            # The framework itself answers this path, so that nothing is logged.
            connection.request("GET", "/robots.txt")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
        return True
    return False


def _ended(server: subprocess.Popen[bytes], news: News) -> bool:
    """Wait until the server has ended; False if there was a change instead, once no more follow."""
    found = news.get()
    while found is not server:
        try:
            found = news.get(timeout=QUIET)
        except Empty:
            return False
    return True


def _imports(names: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the new code can be imported; prints what has changed, and what is wrong with it."""
    what = ", ".join(names)
    done = subprocess.run(
        [sys.executable, "-c", "import main"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        mistake = done.stderr.strip() or done.stdout.strip()
        print(f"\n{what} changed, and can't be used; the old code goes on serving.\n{mistake}\n", flush=True)
        return False
    print(f"\n{what} changed: it is served from now on.\n", flush=True)
    return True


def _fingerprint() -> dict[str, str]:
    """The path and the digest of each watched file."""
    found = {}
    for path in (*sorted(HANDLERS.rglob("*.py")), SETTINGS):
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            # The file doesn't exist, or not at this moment: an editor may be about to replace it.
            continue
    return found


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


class _Tell(FileSystemEventHandler):
    """Reports changes of files with this ending to the queue."""

    def __init__(self, news: News, ending: str) -> None:
        self._news = news
        self._ending = ending

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by the observer's thread."""
        paths = (str(path) for path in (event.src_path, event.dest_path) if path)
        if event.event_type in CHANGES and (
            event.is_directory or any(p.endswith(self._ending) for p in paths)
        ):
            self._news.put(None)


@contextmanager
def _watching(news: News) -> Iterator[None]:
    observer = Observer()
    observer.schedule(_Tell(news, ".py"), str(HANDLERS), recursive=True)
    observer.schedule(_Tell(news, SETTINGS.name), ".", recursive=False)
    try:
        observer.start()
    except OSError as error:
        # The system may have reached its limit of watches; the server works without them.
        print(f"Changes are not taken up, for they can't be watched: {error}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
