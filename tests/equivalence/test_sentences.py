"""Sentences as vectors, with a tiny encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from rapo.errors import ModelError
from rapo.evals.references import bert_score
from rapo.models import sentences
from rapo.models.sentences import SentenceEncoder


@pytest.fixture
def folder(policy, tmp_path: Path) -> Path:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=policy.tokenizer.backend_tokenizer, pad_token="<pad>", model_max_length=64
    )
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_vectors_are_means_of_unit_length_whoever_shares_the_batch(folder, monkeypatch):
    texts = ["I feel so alone", "long evening feels long when my friend moved", " "]
    encode = SentenceEncoder(str(folder))
    vectors = encode(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1])
    ids = torch.tensor([encode._tokenizer(texts[0])["input_ids"]])
    mean = AutoModel.from_pretrained(folder).eval()(ids).last_hidden_state[0].mean(0)
    assert vectors[0] == pytest.approx((mean / mean.norm()).detach().numpy(), abs=1e-5)
    monkeypatch.setattr(sentences, "BATCH", 1)
    assert encode(texts) == pytest.approx(vectors, abs=1e-5)
    assert encode([]).shape == (0, 16)


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"the sentence encoder .* cannot be loaded"):
        SentenceEncoder(str(tmp_path))


def test_bert_score_is_the_mean_of_the_best_matches(folder):
    pytest.importorskip("bert_score", reason="the extra bertscore is not installed")
    similarity = bert_score(str(folder), layers=1)
    pair = ("I feel so alone", "the evening feels long")
    same, found, nothing = similarity([pair[0], pair[0], ""], [pair[0], pair[1], pair[1]])
    assert same == pytest.approx(1) and nothing == 0
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    ours, theirs = (model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0] for text in pair)
    cosine = torch.nn.functional.normalize(ours, dim=-1) @ torch.nn.functional.normalize(theirs, dim=-1).T
    precision, recall = cosine.max(1).values.mean().item(), cosine.max(0).values.mean().item()
    assert found == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
