from __future__ import annotations

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models

from rapo.models.pieces import pieces
from rapo.models.scratch import new_policy


def of_bytes(text: str) -> list[str]:
    """Tokens of one byte each, as sentencepiece falls back to them."""
    return [f"<0x{byte:02X}>" for byte in text.encode()]


@pytest.fixture
def fallback() -> Tokenizer:
    """A word as sentencepiece marks it, every byte, and two special tokens."""
    vocab = {token: i for i, token in enumerate(["▁so", "▁sad", *(f"<0x{byte:02X}>" for byte in range(256))])}
    made = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<think>", "<end>"])
    return made


def cut(tokenizer: Tokenizer, *tokens: str) -> list[str]:
    ids = [tokenizer.token_to_id(token) for token in tokens]
    found = pieces(lambda some: tokenizer.decode(list(some)), ids)
    assert "".join(found) == tokenizer.decode(ids)
    return found


def test_words_keep_their_space_and_special_tokens_are_nothing(fallback: Tokenizer) -> None:
    # The decoder strips the space of the first word alone.
    assert cut(fallback, "<think>", "▁so", "<end>", "▁so", "▁sad", "<end>") == ["", "so", "", " so", " sad", ""]
    assert cut(fallback) == []
    assert cut(fallback, "<end>") == [""]


def test_a_character_over_several_tokens_belongs_to_the_last(fallback: Tokenizer) -> None:
    # é has two bytes and 🙂 four.
    assert cut(fallback, "▁so", *of_bytes("é"), "▁sad") == ["so", "", "é", " sad"]
    assert cut(fallback, *of_bytes("🙂é"), "<end>") == ["", "", "", "🙂", "", "é", ""]


def test_what_never_becomes_a_character_is_shown_where_it_ends(fallback: Tokenizer) -> None:
    cut_off = of_bytes("🙂")[:3]
    assert cut(fallback, "▁so", *cut_off, "▁sad") == ["so", "", "", "", "\ufffd\ufffd\ufffd sad"]
    # The length limit, or the end of the turn, in the middle of a character.
    assert cut(fallback, "▁so", *cut_off) == ["so", "", "", "\ufffd\ufffd\ufffd"]
    assert cut(fallback, "▁so", *cut_off, "<end>") == ["so", "", "", "", "\ufffd\ufffd\ufffd"]


def test_a_character_that_is_taken_back_leaves_the_text_whole(fallback: Tokenizer) -> None:
    # Bytes in a row are one text or none: after é and half of another all three are unknown.
    assert cut(fallback, "▁so", *of_bytes("é"), of_bytes("é")[0]) == ["so\ufffd\ufffd\ufffd", "", "", ""]


def test_the_pieces_of_a_policy_join_to_its_text_and_few_ids_are_decoded() -> None:
    policy = new_policy(
        ["how are you today ?"] * 20, vocab_size=300, hidden=8, layers=1, heads=1, max_context=64, seed=0
    )
    text = "you are 🙂 today, naïve 你好 <b>?" * 20
    ids = policy.encode_reply(text)
    decoded = []

    def decode(some: Sequence[int]) -> str:
        decoded.append(len(some))
        return policy.decode(some)

    found = pieces(decode, ids)
    assert "".join(found) == policy.decode(ids)
    assert found[-1] == ""
    assert {"🙂", "你", "ï"} <= set(found)
    assert sum(decoded) < 12 * len(ids)
