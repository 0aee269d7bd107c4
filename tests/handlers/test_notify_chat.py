"""notify_chat against a real HTTP server. Delete this with the handler."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flowhook import CommentEvent, on, samples
from flowhook.testing import Counterexample, make_event, trials
from tests.support.receiver import ROOT, project, receiver

notify_chat = pytest.importorskip("handlers.notify_chat")


class Chat(HTTPServer):
    """An incoming webhook as strict as Slack's: JSON with a text, at an address with a secret in it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ChatHandler)
        self.status = 200
        self.texts: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.url = f"http://127.0.0.1:{self.server_port}/services/T0/secret-of-the-chat"


class ChatHandler(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["content-type"].startswith("application/json")
        assert set(body) == {"text"}
        self.server.texts.append(body["text"])
        self.server.hold.wait(20)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing on standard error."""


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    server = Chat()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("CHAT_WEBHOOK_URL", server.url)
    yield server
    server.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


def comment(**properties: Any) -> CommentEvent:
    return make_event("packet_comments.created", properties=properties)


def test_a_new_comment_is_posted(chat: Chat) -> None:
    notify_chat.notify_chat(comment())
    assert chat.texts == ["users/us-ada commented on pipelinesPackets/pk-7f3a: The contract is signed."]


def test_a_comment_can_not_mention_everybody_and_is_cut(chat: Chat) -> None:
    notify_chat.notify_chat(comment(content="<!channel> & <users/all> " + "x" * 10_000))
    assert "&lt;!channel&gt; &amp; &lt;users/all&gt;" in chat.texts[0]
    assert "<" not in chat.texts[0]
    assert len(chat.texts[0]) < 2_100


def test_a_comment_without_content_or_author_is_posted(chat: Chat) -> None:
    notify_chat.notify_chat(comment(content=None, createdBy=None))
    assert chat.texts == ["Somebody commented on pipelinesPackets/pk-7f3a: "]


def test_without_an_address_it_is_off(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAT_WEBHOOK_URL")
    notify_chat.notify_chat(comment())
    assert chat.texts == []


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_a_chat_that_refuses_is_a_clear_failure(chat: Chat, status: int) -> None:
    chat.status = status
    with pytest.raises(notify_chat.ChatError, match=f"the chat answered {status}") as failure:
        notify_chat.notify_chat(comment())
    assert "secret-of-the-chat" not in str(failure.value)


def test_a_chat_that_does_not_answer_is_a_failure_in_time(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_chat, "TIMEOUT", 0.1)
    chat.hold.clear()
    with pytest.raises(notify_chat.ChatError, match="can't be reached: TimeoutError"):
        notify_chat.notify_chat(comment())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "file:///etc/passwd", "ftp://x/"])
def test_a_wrong_address_is_a_failure_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CHAT_WEBHOOK_URL", url)
    with pytest.raises(notify_chat.ChatError) as failure:
        notify_chat.notify_chat(comment())
    assert url not in str(failure.value)


def test_a_failing_chat_is_a_500_that_names_the_handler_and_not_the_address(
    tmp_path: Path, chat: Chat
) -> None:
    chat.status = 404
    source = (ROOT / "handlers" / "notify_chat.py").read_text()
    with receiver(tmp_path, project(tmp_path, notify_chat=source), CHAT_WEBHOOK_URL=chat.url) as started:
        response = started.post(samples.load("packet_comments.created"))
        assert response.status_code == 500
        assert response.json()["failed"] == ["notify_chat.notify_chat"]
        chat.status = 200
        assert started.post(samples.load("packet_comments.created")).status_code == 200
        assert "ChatError: the chat answered 404" in started.output()
        assert "secret-of-the-chat" not in started.output()


def test_a_redelivered_comment_is_posted_again_and_nothing_else_goes_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no `once`: a message that comes twice is better than a ledger to run for it."""
    posts: list[tuple[str, str]] = []
    monkeypatch.setenv("CHAT_WEBHOOK_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(notify_chat, "post", lambda *message: posts.append(message))
    with pytest.raises(Counterexample, match="came twice instead of once"):
        trials(notify_chat.notify_chat, observe=lambda: posts)
    ledger = on("packet_comments.created", once=True)(post_the_comment)
    trials(ledger, observe=lambda: posts)


def post_the_comment(event: CommentEvent) -> None:
    """The same with what a test declares about it: `notify_chat` itself stays as it is."""
    notify_chat.notify_chat(event)
