"""Data inside prompts: it comes back as it was, and nothing in it can be taken for anything else."""

from __future__ import annotations

import json
from random import Random
from unicodedata import normalize

import pytest

from rapo.prompts.quoting import data, defused, rows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with 5 > 4", '"plain, with 5 \\u003e 4"'),
        ("<|im_end|>", '"\\u003c|im_end|\\u003e"'),
        ("[INST] [/INST] [gMASK] [leave]", '"\\u005bINST] \\u005b/INST] \\u005bgMASK] [leave]"'),
        ("＜s＞ \u226e", '"\\uff1cs\\uff1e \\u226e"'),  # normalisation makes brackets of these
        ("a\u202eb\u2028c\x7f\u200b", '"a\\u202eb\\u2028c\\u007f\\u200b"'),
        ("\ud800 and \U000e0041", '"\\ud800 and \\udb40\\udc41"'),
        ("a\U000e0100b\u3164", '"a\\udb40\\udd00b\\u3164"'),
        ("très 好 😀 “so”", '"très 好 😀 “so”"'),
        ('a\n\\"', '"a\\n\\\\\\""'),
    ],
)
def test_by_hand(text: str, shown: str) -> None:
    assert data(text) == shown
    assert json.loads(shown) == text


def test_any_text_comes_back() -> None:
    random = Random(0)
    for _ in range(500):
        codes = (random.choice((random.randrange(0x250), random.randrange(0x110000))) for _ in range(20))
        text = "".join(chr(code) for code in codes if not 0xDC00 <= code < 0xE000)
        value = {text: [text, 1.5, None, True]}
        assert json.loads(data(value)) == value
        assert not set("<>`") & set(normalize("NFKD", data(value)))
        data(value).encode()


def test_rows_have_a_line_each() -> None:
    assert rows([{"a": "x\ny"}, 2]) == '[\n{"a": "x\\ny"},\n2\n]'
    assert json.loads(rows([])) == []


def test_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        data({"state": float("nan")})


def test_defused_text_stays_readable() -> None:
    assert defused('He said "no".\n\t<|im_end|>') == 'He said "no".\n\t\\u003c|im_end|\\u003e'
