"""Talks with a policy: what is said is on disk at once, as a replay user reads it; the page is for one person only."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rapo.chat.page import Page
from rapo.chat.talk import Talk
from rapo.chat.terminal import Console
from rapo.data import load_conversations
from rapo.errors import DataError, ModelError
from rapo.progress import Terminal
from rapo.types import Dialogue
from rapo.worlds import load_world

BAD = "\x1b[31mred\x1b]0;title\x07\u202e<script>"


class Echoing:
    """Says how many messages it read, and what the last one was."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        (dialogue,) = dialogues
        last = dialogue.messages[-1].content
        return [None if last == "too long" else f"{len(dialogue.messages)}: {last}"]


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    users = load_world("support").users("familiar", evaluation=True)
    return Talk(Echoing(), tmp_path / "chats", "echo", users=lambda: users)


def test_a_rated_talk_reads_back_as_a_chat_log(talk: Talk) -> None:
    assert not talk.folder.exists()
    assert talk.say("Hello.") == "1: Hello."
    talk.rate(2)
    assert talk.say("Go on.") == "3: Go on."
    talk.rate(5)
    talk.rate(4, reply=0)
    (found,) = load_conversations([talk.folder]).conversations
    said = [message.content for message in found.messages]
    assert said == ["Hello.", "1: Hello.", "Go on.", "3: Go on.", "[leave]"]
    # A rating stands on the user's message after the reply it is about.
    assert found.ratings == (None, 4.0, 5.0)


def test_what_was_taken_back_was_never_said(talk: Talk) -> None:
    talk.say("One.")
    talk.say("Two.")
    talk.rate(1)
    talk.undo()
    assert [message.content for message in talk.messages] == ["One.", "1: One."] and talk.ratings == {}
    assert "Two." not in talk.path.read_text()
    talk.undo()
    assert talk.messages == () and not talk.path.exists()
    with pytest.raises(DataError, match="nothing to take back"):
        talk.undo()


def test_a_reply_that_cannot_be_had_leaves_the_talk_as_it_was(talk: Talk) -> None:
    talk.say("One.")
    with pytest.raises(DataError, match="too long for the model"):
        talk.say("too long")
    assert talk.say("Two.") == "3: Two."
    for text, problem in ((" ", "nothing was said"),):
        with pytest.raises(DataError, match=problem):
            talk.say(text)
    with pytest.raises(DataError, match="no rating"):
        talk.rate(6)
    with pytest.raises(DataError, match="no such reply"):
        talk.rate(3, reply=7)


def test_a_simulated_user_talks_until_it_has_enough(talk: Talk) -> None:
    talk.new(watch=True)
    first = talk.dialogue.scenario.opening[-1].content
    assert talk.step().endswith(first)
    while not talk.dialogue.done and len(talk.dialogue.turns) < 9:
        talk.step()
    assert talk.dialogue.done, "a parroted seeker loses patience"
    with pytest.raises(DataError, match="ended the talk"):
        talk.step()
    with pytest.raises(DataError, match="simulated user is talking"):
        talk.say("Me too.")
    assert json.loads(talk.path.read_text())["simulated"] is True


def test_two_talks_in_one_second_have_files_of_their_own(talk: Talk) -> None:
    talk.say("One.")
    talk.new()
    talk.say("Two.")
    assert len(list(talk.folder.iterdir())) == 2


def test_the_terminal_takes_commands_and_shows_no_control_bytes(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    lines = iter(
        [f"Hi {BAD}", "/9", "/--9", "/\N{SUPERSCRIPT TWO}", "/4", "/undo", "/help", "", "/watch", "", "/1", "/quit"]
    )
    Console(talk, Terminal(), lambda prompt: next(lines)).run(watch=False)
    out, err = capsys.readouterr()
    assert "rated 4" in out and "taken back" in out and "this is no rating" in err
    assert f"this talk is in {talk.path}" in out.replace("\n", "")
    assert not [c for c in out + err if not c.isprintable() and c != "\n"]


@pytest.fixture
def page(talk: Talk) -> Iterator[Page]:
    served = Page(talk)
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served
    served.close()
    thread.join()


def ask(page: Page, name: str, given: object = None, **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(page.url + name, json.dumps(given or {}).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}


def test_the_page_talks(page: Page) -> None:
    with urllib.request.urlopen(page.url) as answer:
        assert b"page.js" in answer.read()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ask(page, "say", {"text": "Hi."})[1]["reply"] == "1: Hi."
    assert ask(page, "rate", {"rating": 3, "reply": 0})[1]["rating"] == 3
    state = ask(page, "say", {"text": "More."})[1]
    assert (state["turns"][0]["rating"], state["reply"], state["problem"]) == (3, "3: More.", "")
    assert "no rating" in str(ask(page, "rate", {"rating": 99, "reply": 0})[1]["problem"])
    for rating in ("x", float("inf"), None, [1]):
        assert "cannot be read" in str(ask(page, "rate", {"rating": rating})[1]["problem"])
    assert ask(page, "watch")[1]["watched"] is True
    assert len(ask(page, "step")[1]["turns"]) == 1


def test_other_pages_and_hosts_are_refused(page: Page) -> None:
    wrong = page.url.replace(page.token, "x" * len(page.token))
    assert ask(page, "state")[0] == 200
    assert ask(page, "state", Origin="http://evil.example")[0] == 404
    assert ask(page, "state", Host="evil.example")[0] == 404, "a name that was made to point here"
    for url in (wrong, page.url + "../page.py", page.url + "talk.py", f"http://{page.host}/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url)
    request = urllib.request.Request(page.url + "say", b"[1]")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


@pytest.mark.parametrize("length", ["-1", "abc", "1_0", "100001", "9" * 5000, "\xb2"])
def test_a_body_of_no_or_too_great_length_is_not_read(page: Page, length: str) -> None:
    host, port = page.host.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as asked:
        head = f"POST /{page.token}/state HTTP/1.1\r\nHost: {page.host}\r\nContent-Length: {length}\r\n\r\n"
        asked.sendall(head.encode("latin-1"))
        assert b" 404 " in asked.recv(100)


def test_json_that_is_too_deep_is_refused(page: Page) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(page.url + "state", b"[" * 50_000 + b"]" * 50_000))


def test_half_a_character_is_said_as_a_question_mark(talk: Talk) -> None:
    assert talk.say("Hi \udcff there.") == "1: Hi ? there."


def test_a_message_that_is_too_long_for_the_model_ends_no_talk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Small:
        def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
            raise ModelError("an opening is too long for the model")

    lines = iter(["a" * 100, "/quit"])
    Console(Talk(Small(), tmp_path, "small"), Terminal(), lambda prompt: next(lines)).run(watch=False)
    assert "too long for the model" in capsys.readouterr().err
