from __future__ import annotations

import shutil
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from rapo.config import RunConfig
from rapo.config.sections import Calls, ModelSpec
from rapo.errors import ModelError
from rapo.evals.suite import Result
from rapo.evaluate import Kept, Speakers
from rapo.models.chat import ChatRequest, ask
from rapo.models.connect import connect
from rapo.models.journal import Journal, Totals
from rapo.models.local import LocalModel
from rapo.models.scratch import new_policy
from rapo.models.source import fingerprint
from rapo.parts import Parts
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


def asked_of(spec, folder):
    """The answers of a model connected anew, by one journal, and how many calls the journal then holds."""
    journal = Journal(folder / "j.sqlite")
    model = connect(spec, journal, "judge", Calls(), label="m", notice=lambda text: None)
    texts = [answer and answer.text for answer in ask(model, [request("I feel sad", 1), request("Tell me", 2)])]
    return texts, journal.totals()["judge"].calls


def test_other_weights_at_the_same_path_are_asked_anew_and_the_same_ones_never(tmp_path):
    def save(seed):
        texts = ["I feel sad today", "Tell me more about it"] * 50
        new_policy(texts, vocab_size=320, hidden=32, layers=1, heads=2, max_context=64, seed=seed).save(tmp_path / "m")

    save(0)
    first, calls = asked_of(spec(str(tmp_path / "m")), tmp_path)
    assert calls == 2
    (tmp_path / "m" / "README.md").write_text("A card is for people.")
    assert asked_of(spec(str(tmp_path / "m")), tmp_path) == (first, 2)
    save(1)
    second, calls = asked_of(spec(str(tmp_path / "m")), tmp_path)
    assert calls == 4 and second != first


def test_another_function_at_the_same_path_is_asked_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    found = []
    for body in ("'One.'", "'One.'", "'Another.'"):
        sys.modules.pop("answers_so", None)
        Path("answers_so.py").write_text(f"def answer(request):\n    return {body}\n")
        found.append(asked_of(spec("answers_so:answer"), tmp_path))
    assert found == [(["One."] * 2, 2), (["One."] * 2, 2), (["Another."] * 2, 4)]


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "config.json", "README.md", "base"])
def test_what_is_kept_of_a_model_is_kept_while_its_files_are_the_same(folder, tmp_path, changed):
    model, adapter = shutil.copytree(folder, tmp_path / "model"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").touch()
    settings = f'{{"peft_type": "LORA", "base_model_name_or_path": "{model}"}}'
    (adapter / "adapter_config.json").write_text(settings)
    source = adapter if changed == "base" else model
    with Parts(RunConfig(), tmp_path, print) as parts:
        speakers, kept, measured = Speakers(parts, [str(source)]), Kept(tmp_path, "safety", RunConfig()), []

        def measure():
            measured.append(1)
            return [Result("safety", "s", "", "care", ())]

        for _ in range(2):
            kept.get("s", speakers.source(str(source)), measure)
        assert len(measured) == 1
        with (model / ("config.json" if changed == "base" else changed)).open("a") as file:
            file.write(" ")
        kept.get("s", speakers.source(str(source)), measure)
    assert len(measured) == (1 if changed == "README.md" else 2)


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert fingerprint("some/model") == ""
    for commit in ("a" * 40, "b" * 40):
        snapshot, main = (tmp_path / "models--some--model" / part for part in (f"snapshots/{commit}", "refs/main"))
        for folder in (snapshot, main.parent):
            folder.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text("{}")
        main.write_text(commit)
        assert fingerprint("some/model") == commit
