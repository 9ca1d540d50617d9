"""Whether the endpoint or what one call says is to blame."""

from __future__ import annotations

import pytest

from fast_endpoint import connect, good, requests, rows, texts
from fault_server import FaultServer, always
from rapo.config.sections import Calls
from rapo.errors import EndpointError
from rapo.models import wire
from rapo.models.chat import ask


@pytest.mark.parametrize("fault", ["500", "hang"])
@pytest.mark.parametrize(("breaker", "attempts"), [(5, 3), (1, 1), (2, 6)])
def test_requests_that_always_fail_stop_no_run_whose_endpoint_answers_the_others(tmp_path, fault, breaker, attempts):
    def poison(_, body):
        return fault if body["messages"][-1]["content"][-1] in "579" else None

    with FaultServer(faults=poison, slow=1.0) as server:
        for _ in range(2):
            calls = Calls(breaker=breaker, patience=15)
            model, _ = connect(tmp_path, server.url, calls, attempts=attempts, timeout=0.3)
            expected = [None if i % 10 in (5, 7, 9) else text for i, text in enumerate(good(20))]
            assert texts(ask(model, requests(20))) == expected
            # A process that meets nothing but these has no answer of another to go by.
            assert model.account.journal.void_unusable() == 6
        totals = model.account.journal.totals()["user"]
        assert (totals.calls, totals.answers, totals.failed) == (26, 14, 12)
        # On a busy machine an attempt may be over before the server has read it.
        assert totals.attempts >= server.count


@pytest.mark.parametrize("first", [0, 3])
def test_what_is_refused_for_what_it_says_stops_no_run(tmp_path, first):
    def moderated(_, body):
        return "403" if body["messages"][-1]["content"] == "question 3" else None

    with FaultServer(faults=moderated) as server:
        model, told = connect(tmp_path, server.url, concurrency=1)
        assert texts(ask(model, requests(5)[first:])) == [*good(3)[first:], None, "re: question 4"]
        assert len(told) == 1
        assert "refuses a request" in told[0]
        # The key is withdrawn.
        server.faults = always("403")
        with pytest.raises(EndpointError, match="refuses to answer; got 403"):
            ask(model, requests(6))


def test_what_nobody_foresaw_in_one_call_lets_the_others_end(tmp_path, monkeypatch):
    whole = wire.body

    def body(spec, request, **more):
        if request.messages[-1].content == "question 3":
            raise ZeroDivisionError
        return whole(spec, request, **more)

    monkeypatch.setattr(wire, "body", body)
    with FaultServer(delay=0.1) as server:
        model, _ = connect(tmp_path, server.url, concurrency=4)
        with pytest.raises(ZeroDivisionError):
            ask(model, requests(4))
        assert rows(tmp_path, "SELECT count(*) FROM answers WHERE state = 'answered'") == [(3,)]


def test_no_part_of_the_key_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPER_KEY", "sk-" + "0123456789" * 40)
    with FaultServer(faults=always("400")) as server:
        model, told = connect(tmp_path, server.url, key_env="HELPER_KEY")
        ask(model, requests(1))
    assert "Bearer [key]" in told[0]
    assert "0123456789" not in told[0]
