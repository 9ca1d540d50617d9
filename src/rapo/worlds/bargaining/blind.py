"""What the embedded judge of bargaining makes of replies alone: it reads as well as ever, and no echo tells it more."""

from __future__ import annotations

from dataclasses import dataclass

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds.bargaining.language import DETAIL, MOVE_FOR, critique, prices_in
from rapo.worlds.bargaining.reader import BUYING, Reading, read_need, read_reply

# What can be held against a reply that nobody has answered yet, the worst first; a critique names the first.
FAULTS = (
    *("lost", "pressure", "invented", "repeated", "parroted", "crowded", "mismatch", "extreme", "backtrack", "early"),
    *("stalled", "missed", "noprice", "vague", "stock"),
)


@dataclass(frozen=True, slots=True)
class Guess:
    """What a plain reader expects of a reply: ``fit`` 0 (another move than the cue asks for) to 2, and its faults."""

    fit: int
    faults: tuple[str, ...]

    @property
    def place(self) -> tuple[bool, int]:
        """Lower is better; every fault weighs the same: who minds which is hidden."""
        return "lost" in self.faults, len(self.faults) - self.fit


def judge_replies(request: JudgeRequest) -> Verdict:
    """Ranks with ties by fit to the need that the partner's last words show and by visible faults."""
    wanted = read_need(request.context[-1].content) or "ask"
    guesses = [_guess(request, reply, wanted) for reply in request.replies]
    places = [guess.place for guess in guesses]
    critiques = [
        critique(next(iter(guess.faults), None), wanted, key=(reply,), good=guess.fit == 2 and not guess.faults)
        for reply, guess in zip(request.replies, guesses, strict=True)
    ]
    return Verdict(tuple(1.0 + sum(other < mine for other in places) for mine in places), tuple(critiques))


def _guess(request: JudgeRequest, reply: str, wanted: str) -> Guess:
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
    return Guess(fit, tuple(fault for fault in FAULTS if fault in found))


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
