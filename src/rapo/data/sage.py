"""SAGE (Tencent's sentient agent as a judge): personas in trouble, and dialogues of the language models that play them.

Two files, both JSON lines and in Chinese:

- profiles: ``player`` (persona), ``scene`` (what happened, and how the user takes which kind of reply), ``task`` (the
  hidden theme: what the user wants of the talk without saying so), ``first_talk``
- dialogues: the same with ``history``, whose user messages carry ``emotion-point`` (0-100) and ``planning``, the
  user's inner view of the reply before

Nothing but what was said is public: a scenario's situation is one sentence for all. ``main_cha`` and ``cha_group``
(temper) are hidden too; ``topic`` (the title of a case) is left out, as the scene says it all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rapo.data.conversation import Opened, RowError, as_number, as_text, kind
from rapo.data.scenarios import as_ident
from rapo.types import Dialogue, Message, Reaction, Scale, Scenario, Turn

EMOTION = Scale(0.0, 100.0, "emotion")
START = 40.0
SITUATION = "一个人最近遇到了烦心事，来找人倾诉。"
_THEME = re.compile(r"\n?#+\s*隐藏主题\s*[:：]\s*\n*\**(.*)\Z", re.DOTALL)
_LABEL = re.compile(r"\A[^\[\]\n]{1,20}\]\s*")


def recognise_profile(row: Any) -> str | None:
    """``"sage profiles"`` for a row of this format, None for any other."""
    return "sage profiles" if isinstance(row, dict) and {"player", "scene", "first_talk"} <= set(row) else None


def recognise_log(row: Any) -> str | None:
    """``"sage dialogues"`` for a row of this format, None for any other."""
    return "sage dialogues" if isinstance(row, dict) and {"player", "scene", "history"} <= set(row) else None


def parse_profile(row: Any, ident: str, _source: str) -> Opened:
    """The scenario of one profile; its user starts at 40 of 100, as in the published dialogues.

    Raises:
        RowError: a key is missing or has the wrong type.
    """
    return Opened(_scenario(_object(row, "the row"), ident, row.get("first_talk"), "first_talk", START))


def parse_log(row: Any, ident: str, _source: str) -> Dialogue:
    """The dialogue of one row; its scenario equals that of its profile.

    A reaction's thought is the user's ``activity`` and ``analyse`` after the reply. A dialogue that ends with the user
    was ended by the user; a last reply that nobody answered is left out.

    Raises:
        RowError: a key is missing, the two sides do not take turns, or a message is empty or without its emotion.
    """
    history = _object(row, "the row").get("history")
    if not isinstance(history, list) or not history:
        raise RowError(f"history is {'empty' if history == [] else kind(history)}, expected a list of messages")
    said = [_object(one, f"history[{place}]") for place, one in enumerate(history)]
    states = [_state(one, f"history[{place}]", "assistant" if place % 2 else "user") for place, one in enumerate(said)]
    scenario = _scenario(row, ident, said[0].get("content"), "history[0].content", states[0])
    turns = [_turn(said, states, place) for place in range(2, len(said), 2)]
    if turns and len(said) % 2:
        last = turns[-1]
        turns[-1] = Turn(
            last.reply, Reaction(last.reaction.text, last.reaction.state, last.reaction.thought, done=True)
        )
    if not turns:
        raise RowError("history holds no reply that the user answered")
    return Dialogue(scenario, tuple(turns))


def _scenario(row: dict[str, Any], ident: str, first: Any, name: str, start: float) -> Scenario:
    persona, scene = _filled(row.get("player"), "player"), _filled(row.get("scene"), "scene")
    theme = _THEME.search(scene)
    need = as_text(row.get("task") or (theme[1] if theme else ""), "task")
    profile: dict[str, Any] = {"persona": persona, "need": need, "facts": [scene[: theme.start()] if theme else scene]}
    temper = row.get("main_cha", row.get("character"))
    if temper is not None:
        profile["temper"] = as_text(temper, "main_cha")
    opening = (Message("user", _filled(first, name)),)
    return Scenario(as_ident(row.get("id"), ident), SITUATION, opening, start, EMOTION, profile)


def _state(message: dict[str, Any], name: str, speaker: str) -> float:
    """The user's emotion at a message of the user; 0, unused, at a reply."""
    if message.get("role") != speaker:
        raise RowError(f"{name}.role is {message.get('role')!r:.40}, expected {speaker} (the two sides take turns)")
    _filled(message.get("content"), f"{name}.content")
    if speaker == "assistant":
        return 0.0
    state = as_number(message.get("emotion-point"), f"{name}.emotion-point", EMOTION.low, EMOTION.high)
    if state is None:
        raise RowError(f"{name}.emotion-point is missing, expected 0 to 100")
    return state


def _turn(said: Sequence[dict[str, Any]], states: Sequence[float], place: int) -> Turn:
    echo = said[place]
    planning = _object(echo.get("planning") or {}, f"history[{place}].planning")
    views = [as_text(planning.get(key) or "", f"history[{place}].planning.{key}") for key in ("activity", "analyse")]
    thought = "\n".join(_LABEL.sub("", view) for view in views if view)
    return Turn(said[place - 1]["content"].strip(), Reaction(echo["content"].strip(), states[place], thought))


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(f"{name} is {kind(value)}, expected an object")
    return value


def _filled(value: Any, name: str) -> str:
    text = as_text(value, name)
    if not text:
        raise RowError(f"{name} is empty")
    return text
