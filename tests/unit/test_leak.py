"""What counts as telling a secret, and what does not."""

from __future__ import annotations

import time

import pytest

from rapo.hindsight.leak import hidden_texts, leaks


@pytest.mark.parametrize(
    ("critique", "secret"),
    [
        ("They lost the job at the mill last year.", "He lost the job at the mill."),  # "lost the job at the"
        ("So they lost the job at last, in the end.", "He lost the job at last."),  # five words in a row
        ("They lost,  THE job; at the mill", "He lost the job at the mill."),
        ("Ask for 40 at most.", "will not pay more than 40"),
        ("It is worth 1,200 to them.", "worth 1200"),
        ("They will not go below 1,250,000.", hidden_texts({"limit": 1250000})[0]),
        ("Say zx-quartz-7714.", "canary ZX-QUARTZ-7714"),
        ("Say QUARTZ.", "canary ZX-QUARTZ-7714"),
        ("Say blue-heron-lamp.", "the word is Blue-Heron-Lamp"),
        ("Say ca\u200bnary7f3a9.", "canary7f3a9"),
        ("Say ｃａｎａｒｙ７７.", "canary77"),
        ("Marta would like that.", "Her sister Marta left in spring."),
        ("Ask about Marta.", "Marta left in spring."),
        ("Write to ada@example.org.", "mail: ada@example.org"),
        ("他老是对未来的事模棱两可", "因为他老是对未来的事模棱两可"),
    ],
)
def test_told_unless_it_was_said(critique: str, secret: str) -> None:
    assert leaks(critique, ["other", secret], ["hello"])
    assert not leaks(critique, ["other", secret], ["hello", f"I say: {secret}"])
    assert not leaks(critique, ["other"], [])


@pytest.mark.parametrize(
    ("critique", "secret"),
    [
        ("You gave two reasons; ask one question.", "wants to be heard. Ask nothing."),
        ("They lost the job at last.", "He lost the job at the mill."),  # four words in a row
        ("Give 5 reasons.", "books give 5 points"),
        ("Do NOT hurry.", "do NOT tell anyone"),
        ("Keep asking.", "Keep it secret."),
        ("未来的事不清楚", "他老是对未来的事模棱两可"),
        ("", "anything at all"),
    ],
)
def test_not_told(critique: str, secret: str) -> None:
    assert not leaks(critique, [secret], [])


@pytest.mark.parametrize("flood", ["a" * 200_000, "a-" * 100_000, "1," * 100_000, "Ab " * 60_000, "a.b_" * 50_000])
def test_floods_are_fast(flood: str) -> None:
    start = time.perf_counter()
    leaks(flood, ["x"], [flood])
    assert time.perf_counter() - start < 5


def test_nouns_with_capitals_are_no_names() -> None:
    german = (
        "Er hat im Frühjahr die Stelle in der Fabrik verloren und sucht seither eine Arbeit, die der Familie genug Geld"
        " bringt, und er hat große Angst, dass der Vermieter im Herbst die Wohnung kündigt, obwohl der Sohn krank ist."
    )
    assert not leaks("Frag nach der Wohnung.", [german], [])


def test_hidden_texts_are_all_texts_and_numbers() -> None:
    profile = {"need": "rest", "facts": ["rent", {"limit": 40, "sure": True}], "name": "Marta", "share": 0.5, "x": None}
    assert hidden_texts(profile) == ("rest", "rent", "40", "called Marta", "0.5")
    assert leaks("Marta is tired.", hidden_texts(profile), [])
