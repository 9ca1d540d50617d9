from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
import traceback
from collections import Counter

import pytest

from fast_endpoint import CANARY, PACE, connect, good, requests, rows, texts
from fault_server import ALL, CONTENT, HOPELESS, TRANSPORT, FaultServer, always, closed_url, once
from rapo.config.sections import Calls
from rapo.errors import BudgetError, EndpointError, RunError
from rapo.models.chat import ChatRequest, ask
from rapo.types import Message

OUTCOMES = {
    "reset": "broken off",
    "truncated": "broken off",
    "hang": "timeout",
    "drip": "timeout",
    "slow headers": "timeout",
    "huge": "too large",
    "empty": "malformed",
    "malformed": "malformed",
    "wrong type": "malformed",
    "not a chat": "malformed",
}


def about(*faults):
    return [ChatRequest((Message("user", fault),), "test", 0) for fault in faults]


def outcomes(path, model, requests):
    """The ledger's words for the attempts of each request, in order."""
    found = rows(path, "SELECT key, outcome FROM attempts ORDER BY id")
    return [[word for key, word in found if key == model.account.key(one)] for one in requests]


@pytest.mark.parametrize(("times", "attempts"), [(1, 6), (1000, 3)])
def test_every_fault_is_overcome_once_and_given_up_for_ever(tmp_path, times, attempts):
    def named(seen, body):
        fault = body["messages"][-1]["content"]
        return fault if fault != "none" and seen < times else None

    # An endpoint that is asked too fast is waited for: test_pace.py.
    met = [fault for fault in TRANSPORT if times == 1 or not fault.startswith("429")]
    asked = about("none", *met)
    with FaultServer(faults=named, retry_after=2.0) as server:
        model, _ = connect(tmp_path, server.url, Calls(breaker=1000), attempts=attempts, timeout=1.0, concurrency=20)
        answers = texts(ask(model, asked))
        failures = [0] + [min(times, attempts)] * len(met)
        assert answers == [f"re: {fault}" if times == 1 or fault == "none" else None for fault in ("none", *met)]
        words = ["", *(OUTCOMES.get(fault, "busy" if fault.startswith("429") else "error") for fault in met)]
        good_end = [["answered"] if answer else [] for answer in answers]
        expected = [[word] * n + end for word, n, end in zip(words, failures, good_end, strict=True)]
        assert outcomes(tmp_path, model, asked) == expected
        totals = model.account.journal.totals()["user"]
        assert totals.attempts == server.count == sum(map(len, expected))
        assert (totals.calls, totals.answers, totals.failed) == ((17, 17, 0) if times == 1 else (14, 1, 13))
        # It replays, failures as well: nothing is asked.
        assert texts(ask(model, asked)) == answers
        assert server.count == totals.attempts


@pytest.mark.parametrize("fault", ["503", "reset", "hang", "malformed", "closed port"])
def test_an_endpoint_that_fails_for_ever_ends_the_run(tmp_path, fault):
    with FaultServer(faults=always(fault)) as server:
        url = closed_url() if fault == "closed port" else server.url
        model, _ = connect(tmp_path, url, Calls(breaker=4, patience=15), timeout=0.3)
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"models.helper at http.*has failed for \d+ s; got .*rapo resume"):
            ask(model, requests(6))
        # Four failures, 15 s of the fast clock and a probe's deadline are 1 s; the rest is for a busy machine.
        assert time.monotonic() - began < 20
        # No failure of an outage is a failure of a call.
        assert rows(tmp_path, "SELECT count(*) FROM answers") == [(0,)]
        if fault != "closed port":
            assert server.count == model.account.journal.totals()["user"].attempts
            # Six at the same time may fail while the breaker opens, and again before it is seen; then probes 0.5, 1, 2,
            # 4, 8 s apart. Without a breaker there would be hundreds.
            assert server.count <= 6 + 6 + 6


@pytest.mark.parametrize("fault", ["429-after", "429-date"])
def test_the_endpoint_says_how_long_to_wait(tmp_path, fault):
    # 9 s of the fast clock are 0.3 s; a date has whole seconds, so at least 8 s of them are left. Backoff alone: 0.5 s.
    with FaultServer(faults=once(fault), retry_after=9.0) as server:
        model, _ = connect(tmp_path, server.url)
        began = time.monotonic()
        assert texts(ask(model, requests(1))) == good(1)
        assert time.monotonic() - began >= 7.5 / PACE


@pytest.mark.parametrize(("breaker", "attempts"), [(4, 2), (1, 1)])
def test_an_endpoint_that_comes_back_has_cost_no_answer(tmp_path, breaker, attempts):
    hits = itertools.count()
    with FaultServer(faults=lambda *_: "503" if next(hits) < 9 else None) as server:
        model, _ = connect(tmp_path, server.url, Calls(breaker=breaker), attempts=attempts, concurrency=4)
        assert texts(ask(model, requests(30))) == good(30)
        # Nine failures, of calls and probes, one probe that is answered, and one attempt for each call.
        assert server.count == 40


@pytest.mark.parametrize("count", [1, 120])
def test_calls_wait_for_an_endpoint_that_is_not_there_yet(tmp_path, count):
    url = closed_url()
    server = FaultServer(port=int(url.split(":")[2].removesuffix("/v1")))
    # The free retries are fewer than the calls: none is used up.
    model, _ = connect(tmp_path, url, Calls(retries=0.0), attempts=1, concurrency=count)

    def open_late():
        while rows(tmp_path, "SELECT count(*) FROM attempts WHERE outcome = 'unreachable'") == [(0,)]:
            time.sleep(0.01)
        server.__enter__()

    opening = threading.Thread(target=open_late)
    opening.start()
    try:
        assert texts(ask(model, requests(count))) == good(count)
        totals = model.account.journal.totals()["user"]
        asked = Counter(hit.body["messages"][-1]["content"] for hit in server.hits)
        # A probe comes first where every call met the closed port; on a busy machine some are sent after it opened.
        asked.pop("Say hello.", None)
        assert asked == {f"question {i}": 1 for i in range(count)}
        # Whoever was not there is not paid: two words each question, the probe's too, three words each answer.
        assert (totals.calls, totals.answers) == (count, count)
        assert (totals.prompt_tokens, totals.completion_tokens) == (2 * server.count, 3 * server.count)
        assert totals.attempts > server.count
    finally:
        opening.join()
        server.__exit__()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", "401.*check the key in HELPER_KEY"),
        ("403", "403.*check the key in HELPER_KEY"),
        ("404", "404.*models.helper.url.*the model name m"),
        ("wrong model", "another model; got another-model; expected m; .*models.helper.name"),
        ("redirect", "redirect to http://127.0.0.1:9/elsewhere.*models.helper.url"),
    ],
)
def test_what_cannot_get_better_ends_the_run_at_once(tmp_path, monkeypatch, fault, words):
    monkeypatch.setenv("HELPER_KEY", CANARY)
    with FaultServer(faults=always(fault)) as server:
        model, _ = connect(tmp_path, server.url, key_env="HELPER_KEY", concurrency=1)
        with pytest.raises(EndpointError, match=words):
            ask(model, requests(3))
        # A 403 may be about what one request says: whether a harmless one is refused as well tells.
        assert server.count == (2 if fault == "403" else 1)


@pytest.mark.parametrize("fault", CONTENT)
def test_what_an_answer_says_is_not_judged_here(tmp_path, fault):
    with FaultServer(faults=always(fault)) as server:
        model, _ = connect(tmp_path, server.url)
        assert texts(ask(model, requests(2))) == [CONTENT[fault]] * 2
        assert server.count == 2


@pytest.mark.parametrize("fault", ["503", "400", "401", "redirect", "wrong model", "malformed", "reset"])
def test_the_key_is_sent_and_written_nowhere(tmp_path, monkeypatch, caplog, capfd, fault):
    monkeypatch.setenv("HELPER_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    said = ""
    # The answer quotes the key as well: a server's log may be in its model's context.
    with FaultServer(lambda body: f"your key is {CANARY}", faults=always(fault)) as server:
        model, told = connect(tmp_path, server.url, Calls(breaker=2, patience=1), key_env="HELPER_KEY", attempts=3)
        for faults in (always(fault), once("400")):
            server.faults = faults
            try:
                said += repr(ask(model, requests(2)))
            except EndpointError:
                said += traceback.format_exc()
        said += repr(told) + repr(model) + repr(model.model)
        assert server.hits[0].headers["authorization"] == f"Bearer {CANARY}"
    said += caplog.text + "".join(capfd.readouterr())
    assert CANARY not in said
    model.account.journal.close()
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()


@pytest.mark.parametrize("key", [None, "", "  ", "two\nlines-secret", "sch\u00f6ner-schl\u00fcssel"])
def test_a_key_that_is_missing_or_cannot_be_sent(tmp_path, monkeypatch, key):
    monkeypatch.delenv("HELPER_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("HELPER_KEY", key)
    with FaultServer() as server:
        model, _ = connect(tmp_path, server.url, key_env="HELPER_KEY")
        with pytest.raises(EndpointError, match="HELPER_KEY holds no usable key for models") as error:
            ask(model, requests(1))
        assert server.count == 0
    assert not key or not key.strip() or key not in str(error.value)


def test_a_schema_is_sent_and_given_up_once_where_it_is_refused(tmp_path):
    schema = {"type": "object"}
    with FaultServer(schemas=False) as server:
        model, told = connect(tmp_path, server.url, concurrency=1)
        assert texts(ask(model, requests(4, schema))) == good(4)
        assert ["response_format" in hit.body for hit in server.hits] == [True, False, False, False, False]
        assert len(told) == 1
        assert "JSON schema" in told[0]
    with FaultServer(schemas=False) as server:
        (tmp_path / "on").mkdir()
        model, told = connect(tmp_path / "on", server.url, json_schema="on")
        assert texts(ask(model, requests(2, schema))) == [None, None]
        assert "response_format is not supported" in told[0]
    with FaultServer() as server:
        (tmp_path / "off").mkdir()
        model, _ = connect(tmp_path / "off", server.url, json_schema="off")
        ask(model, requests(1, schema))
        assert "response_format" not in server.hits[0].body


def test_a_refused_request_is_told_once_and_many_without_one_answer_end_the_run(tmp_path):
    def bad(_, body):
        return "400" if body["messages"][-1]["content"] != "question 0" else None

    with FaultServer(faults=bad) as server:
        model, told = connect(tmp_path, server.url, Calls(breaker=5), concurrency=1)
        assert texts(ask(model, requests(9))) == ["re: question 0"] + [None] * 8
        assert server.count == 9
        assert len(told) == 1
        server.faults = always("400")
        fresh, _ = connect(tmp_path, server.url, Calls(breaker=5), temperature=0.0)
        with pytest.raises(EndpointError, match=r"refuses to answer; got 400.*check the model name m"):
            ask(fresh, requests(9))


def test_the_retry_budget_ends_retries(tmp_path):
    with FaultServer(faults=lambda seen, _: "503" if seen < 2 else None) as server:
        model, _ = connect(tmp_path, server.url, Calls(retries=0.0, breaker=10_000), concurrency=8)
        answers = texts(ask(model, requests(120)))
        # 100 retries are free: enough to bring some calls through, and no more.
        assert server.count == 220
        assert 0 < sum(answer is None for answer in answers) < 120


def test_at_most_so_many_calls_at_once(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, _ = connect(tmp_path, server.url, concurrency=5)
        assert texts(ask(model, requests(20))) == good(20)
        assert server.busiest == 5


def test_answers_come_as_they_arrive_and_are_stored_while_nobody_reads(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, _ = connect(tmp_path, server.url, concurrency=2)
        answers = model.answers(requests(6))
        next(answers)
        time.sleep(0.5)
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'answered'") == [(6,)]
        answers.close()


def test_it_works_inside_a_running_loop(tmp_path):
    async def inside(url):
        return ask(connect(tmp_path, url)[0], requests(2))

    with FaultServer() as server:
        assert texts(asyncio.run(inside(server.url))) == good(2)


def test_whoever_stops_reading_ends_the_calls(tmp_path):
    with FaultServer(delay=0.2) as server:
        model, _ = connect(tmp_path, server.url, concurrency=2)
        answers = model.answers(requests(50))
        next(answers)
        answers.close()
        assert server.count < 10
        assert rows(tmp_path, "SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(0,)]
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'claimed'") == [(0,)]


def test_the_budget_stops_before_the_call_and_what_is_under_way_is_kept(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, _ = connect(tmp_path, server.url, Calls(max_calls=7), concurrency=4)
        got = []
        with pytest.raises(BudgetError, match=r"calls.max_calls; got 7 spent"):
            got.extend(model.answers(requests(20)))
        assert len(got) == server.count == 7
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'answered'") == [(7,)]


def test_a_journal_that_cannot_be_written_ends_the_run(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, _ = connect(tmp_path, server.url)
        answers = model.answers(requests(40))
        next(answers)
        model.account.journal._db.execute("PRAGMA query_only = 1")
        with pytest.raises(RunError, match="cannot be written"):
            list(answers)
        model.account.journal._db.execute("PRAGMA query_only = 0")


def test_a_proxy_is_for_the_way_out_only(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with FaultServer() as server:
        model, _ = connect(tmp_path, server.url)
        assert texts(ask(model, requests(1))) == good(1)
        outside, _ = connect(tmp_path, "http://models.example/v1", Calls(breaker=1, patience=0.1))
        with pytest.raises(EndpointError, match="no connection"):
            ask(outside, requests(2)[1:])


def test_the_address_is_taken_with_or_without_its_path(tmp_path):
    with FaultServer() as server:
        for url in (server.url, server.url + "/", server.url + "/chat/completions"):
            model, _ = connect(tmp_path, url, name=f"m{len(url)}")
            assert texts(ask(model, requests(1))) == good(1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/v1", "http://", "http://[::1/v1"])
def test_an_address_that_cannot_be_one(tmp_path, url):
    with pytest.raises(EndpointError, match=r"models.helper.url is no address; expected one such as"):
        connect(tmp_path, url)


def test_every_fault_is_one_of_a_kind():
    assert len(set(ALL)) == len(ALL) == len(TRANSPORT) + len(HOPELESS) + len(CONTENT)
    assert json.loads(CONTENT["nan"])["ranks"][0] != 0
