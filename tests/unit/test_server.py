"""One endpoint asked from several threads and in several roles: one connection pool, one limit, one end."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fast_endpoint import connect, good, requests, rows, texts
from fault_server import FaultServer
from rapo.config import RunConfig
from rapo.config.sections import Calls
from rapo.errors import BudgetError, EndpointError
from rapo.models.chat import ask
from rapo.parts import Parts


def at_once(model, batches, meanwhile=lambda: None):
    """Ask every batch in a thread of its own; what each got, or the error that ended it."""
    found = [None] * len(batches)

    def work(place, batch):
        try:
            found[place] = texts(ask(model, batch))
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(batches)]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "waits for ever"
    return found


def test_connections_are_kept_from_batch_to_batch(tmp_path):
    with FaultServer() as server:
        model, _ = connect(tmp_path, server.url, concurrency=1)
        for i in range(5):
            ask(model, requests(5)[i : i + 1])
        assert (server.count, server.connections) == (5, 1)


def test_the_limit_holds_for_all_threads_together(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, _ = connect(tmp_path, server.url, concurrency=5)
        asked = requests(24)
        assert at_once(model, [asked[i : i + 4] for i in range(0, 24, 4)]) == [
            good(24)[i : i + 4] for i in range(0, 24, 4)
        ]
        assert server.busiest == 5


def test_the_limit_holds_for_all_roles_together(tmp_path):
    with FaultServer(delay=0.05) as server:
        spec = {"url": server.url, "name": "m", "concurrency": 3}
        with Parts(RunConfig.model_validate({"models": {"m": spec}}), tmp_path, print) as parts:
            user, judge = parts.model("m", "user"), parts.model("m", "judge")
            with ThreadPoolExecutor(2) as pool:
                both = pool.submit(ask, user, requests(6)), pool.submit(ask, judge, requests(12)[6:])
                assert [texts(one.result()) for one in both] == [good(6), good(12)[6:]]
            assert server.busiest == 3
            assert [parts.totals()[role].calls for role in ("user", "judge")] == [6, 6]


def test_what_two_threads_ask_for_at_once_is_asked_once(tmp_path):
    with FaultServer(delay=0.05) as server:
        model, told = connect(tmp_path, server.url)
        # Each waits for one answer of the other.
        one, two, three = requests(3)
        for _ in range(3):
            found = at_once(model, [[one, two], [two, three], [three, one]] * 2)
        assert found == [[good(3)[i], good(3)[j]] for i, j in ((0, 1), (1, 2), (2, 0))] * 2
        assert server.count == 3
        assert told == []


def test_what_a_thread_has_stopped_asking_for_another_may_ask(tmp_path):
    with FaultServer(delay=0.2) as server:
        model, _ = connect(tmp_path, server.url, concurrency=1)
        begun = model.answers(requests(3))
        next(begun)
        assert at_once(model, [requests(3)], meanwhile=begun.close) == [good(3)]
        # The second call was under way when its reader stopped.
        assert server.count in (3, 4)


def test_what_is_voided_can_be_asked_for_by_any_thread(tmp_path):
    with FaultServer(reply=lambda body: "bad") as server:
        model, _ = connect(tmp_path, server.url)
        ask(model, requests(1))
        model.reject(requests(1))
        assert model.account.journal.void_unusable() == 1
        assert at_once(model, [requests(1)]) == [["bad"]]
        assert server.count == 2


def test_an_error_ends_what_other_threads_ask_and_what_is_under_way_is_kept(tmp_path):
    with FaultServer(faults=lambda seen, body: "401" if "question 0" in str(body) else None, delay=0.3) as server:
        model, _ = connect(tmp_path, server.url, concurrency=4)
        asked = requests(40)
        found = at_once(model, [asked[20:], asked[:1]])
        assert [type(each) for each in found] == [EndpointError, EndpointError]
        # All that was sent but the one that is refused; not the rest, which was still to be sent.
        stored = rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'answered'")[0][0]
        assert stored == server.count - 1 < 20
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'claimed'") == [(0,)]
        # Nothing is under way any more: whoever asks now may try again.
        assert texts(ask(model, asked[30:])) == good(40)[30:]


def test_threads_never_exceed_a_budget_together(tmp_path):
    with FaultServer(delay=0.02) as server:
        model, _ = connect(tmp_path, server.url, Calls(max_calls=7), concurrency=8)
        found = at_once(model, [[one] for one in requests(20)])
        assert sum(isinstance(each, BudgetError) for each in found) >= 13
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'answered'") == [(7,)]
        assert server.count == 7


def test_closing_ends_every_reader_and_the_thread(tmp_path):
    before = set(threading.enumerate())
    with FaultServer(delay=30) as server:
        model, _ = connect(tmp_path, server.url)

        def hang_up():
            while server.count < 2:
                time.sleep(0.01)
            model.model.server.close()

        found = at_once(model, [[one] for one in requests(2)], meanwhile=hang_up)
        assert [str(error) for error in found] == ["calls to helper: cancelled"] * 2
        with pytest.raises(RuntimeError, match="calls to helper: closed"):
            ask(model, requests(3)[2:])
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "calls to helper"]
    assert rows(tmp_path, "SELECT count(*), max(outcome) FROM attempts") == [(2, "cancelled")]
    assert rows(tmp_path, "SELECT count(*) FROM answers") == [(0,)]


def test_an_endpoint_that_is_forgotten_keeps_no_thread(tmp_path):
    with FaultServer() as server:
        model, _ = connect(tmp_path, server.url)
        ask(model, requests(1))
        thread = model.model.server.background._thread
        assert thread.is_alive()
        del model
        gc.collect()
        thread.join(10)
        assert not thread.is_alive()
