from __future__ import annotations

import pytest

from rapo.config.sections import Calls, ModelSpec
from rapo.errors import ModelError
from rapo.models.chat import ChatRequest, ask
from rapo.models.connect import connect
from rapo.models.journal import Journal, Totals
from rapo.models.local import LocalModel
from rapo.models.scratch import new_policy
from rapo.types import Message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    texts = ["I feel sad today", "Tell me more about it"] * 50
    new_policy(texts, vocab_size=320, hidden=32, layers=1, heads=2, max_context=64, seed=0).save(path)
    return str(path)


def spec(folder, **changes):
    return ModelSpec(**{"path": folder, "max_tokens": 8, "concurrency": 2} | changes)


def request(text, seed):
    return ChatRequest((Message("system", "be kind"), Message("user", text)), "test", seed)


def test_an_answer_depends_on_its_request_alone(folder):
    requests = [request("I feel sad", 1), request("Tell me more about it today", 2), request("I feel sad", 3)]
    together = ask(LocalModel(spec(folder), notice=print), requests)
    alone = [ask(LocalModel(spec(folder, concurrency=1), notice=print), [one])[0] for one in requests]
    assert together == alone
    assert together[0] != together[2]
    greedy = LocalModel(spec(folder, temperature=0.0), notice=print)
    first, _, third = ask(greedy, requests)
    assert first == third
    assert all(1 <= answer.completion_tokens <= 8 and answer.prompt_tokens > 5 for answer in together)


def test_a_prompt_that_does_not_fit_has_no_answer_and_is_told_once(folder):
    told = []
    model = LocalModel(spec(folder), notice=told.append)
    answers = ask(model, [request("sad " * 100, 1), request("I feel sad", 2), request("sad " * 100, 3)])
    assert [answer is None for answer in answers] == [True, False, True]
    assert len(told) == 1
    assert "where 56 fit beside an answer of 8" in told[0]


def test_an_answer_longer_than_the_context_is_refused_at_once(folder):
    with pytest.raises(ModelError, match="max_tokens 64; expected less than 64"):
        LocalModel(spec(folder, max_tokens=64), notice=print)


def test_it_is_journaled_like_any_other(folder, tmp_path):
    requests = [request("I feel sad", 1), request("sad " * 100, 1)]
    model = connect(
        spec(folder), Journal(tmp_path / "j.sqlite"), "judge", Calls(), label="tiny", notice=lambda text: None
    )
    first = ask(model, requests)
    assert ask(model, requests) == first
    read, written = first[0].prompt_tokens, first[0].completion_tokens
    assert model.account.journal.totals() == {"judge": Totals(2, 0, 1, 1, read, written)}
