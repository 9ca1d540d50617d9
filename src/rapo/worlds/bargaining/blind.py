"""What the embedded judge of bargaining makes of replies alone: a plain reader's guesses (:mod:`rapo.worlds.blind`)."""

from __future__ import annotations

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds import blind
from rapo.worlds.bargaining.language import DETAIL, MOVE_FOR, critique, prices_in
from rapo.worlds.bargaining.reader import BUYING, Reading, read_need, read_reply

# What can be held against a reply that nobody has answered yet, the worst first; a critique names the first.
FAULTS = (
    *("lost", "pressure", "invented", "repeated", "parroted", "crowded", "mismatch", "extreme", "backtrack", "early"),
    *("stalled", "missed", "noprice", "vague", "stock"),
)


def judge_replies(request: JudgeRequest) -> Verdict:
    """Ranks with ties by fit to the need that the partner's last words show and by visible faults."""
    return blind.judge_replies(request, read_need(request.context[-1].content) or "ask", _guess, critique)


def _guess(request: JudgeRequest, reply: str, wanted: str) -> blind.Guess:
    heard = [message.content for message in request.context if message.role != "assistant"]
    before = [message.content for message in request.context if message.role == "assistant"]
    reading = read_reply(reply, heard=heard, replies=before)
    move = MOVE_FOR.get(wanted, wanted)
    fit = 0
    if move in reading.moves:
        priced = move in ("ask", "accept") or reading.price is not None
        detailed = move not in DETAIL or DETAIL[move] in reading.named
        fit = 1 + (priced and detailed)
    lacking = {"missed": fit == 0, "noprice": fit == 1 and reading.price is None, "vague": fit == 1}
    wrong = {**_wrong_price(reading, heard, before, wanted), **lacking, "stalled": wanted == "final" and fit == 0}
    found = {*reading.defects, *(name for name, is_so in wrong.items() if is_so)}
    return blind.Guess(fit, tuple(fault for fault in FAULTS if fault in found))


def _wrong_price(reading: Reading, heard: list[str], before: list[str], wanted: str) -> dict[str, bool]:
    """Faults of the price, by the brief and the prices named so far; where the partner's limit lies is hidden."""
    offered = prices_in(heard[-1])
    sign = 1 if BUYING.search(heard[-1].lower()) else -1  # a higher price is better for who sells
    earlier = [sign * prices[0] for text in before if len(prices := prices_in(text)) == 1]
    mine = None if reading.price is None else sign * reading.price
    briefed = [sign * price for price in prices_in(heard[0])]
    accepts = "accept" in reading.moves
    return {
        "early": (accepts or reading.leaves) and wanted != "final",
        "mismatch": accepts and reading.price is not None and reading.price not in offered,
        "extreme": mine is not None and bool(briefed) and mine > max(briefed),
        "backtrack": mine is not None and bool(earlier) and mine > min(earlier),
    }
