"""What a language model could answer to RAPO's own prompts: ``FaultServer(reply=fake_llm)``.

The user it plays likes questions: a reply with a question mark lifts the state by 1, any other lowers it by 1.
Its judge ranks by state.
"""

from __future__ import annotations

import json
import re
from typing import Any


def fake_llm(body: dict[str, Any]) -> str:
    """A good answer to a request body of the OpenAI protocol."""
    messages = [message["content"] for message in body["messages"]]
    instructions = messages[0]
    # A retry shows the unusable answer after the question it is about.
    question = next((text for text in reversed(messages) if "Answer with one JSON object" in text), messages[-1])
    answers = {
        "verdicts": _verdicts,
        '"why"': _experience,
        '"score"': _rating,
        '"state":': _mood,
        '"intent"': _intent,
        '"text"': _words,
    }
    for mark, answer in answers.items():
        if mark in _wanted(question):
            return json.dumps(answer(instructions, question))
    if "response_format" in body:
        return '{"city": "Paris"}'
    word = re.search(r"Remember the word (\w+)", question)
    return word[1] if word else "Hello."


def parse_back(prompt: str) -> list[dict[str, Any]]:
    """The candidates as a reader of a judge's prompt finds them: ``id``, ``reply``, ``answer``, ``state``."""
    found: list[dict[str, Any]] = json.loads(prompt.partition("<candidates>")[2].partition("</candidates>")[0])
    return found


def _verdicts(_: str, question: str) -> dict[str, Any]:
    group = parse_back(question)
    states = [each["state"] for each in group]
    return {
        "verdicts": [
            {
                "id": each["id"],
                "critique": "Keep asking." if "?" in each["reply"] else "Ask a question.",
                "rank": 1 + sum(state > each["state"] for state in states),
            }
            for each in group
        ]
    }


def _rating(_: str, question: str) -> dict[str, Any]:
    asked = set(re.findall(r'"(\w+)": 5', question))
    return {"reason": "It asked.", **dict.fromkeys(asked, min(10, 4 + question.count("?")))}


def _experience(instructions: str, question: str) -> dict[str, Any]:
    score = min(10, 4 + question.count("?"))
    return {
        name: {"why": "It asked.", "score": score} for name in re.findall(r"^- (\w+): ", instructions, re.MULTILINE)
    }


def _intent(_: str, __: str) -> dict[str, Any]:
    return {"thought": "Hm.", "intent": "Go on.", "tell": "", "done": False}


def _mood(instructions: str, question: str) -> dict[str, Any]:
    low, high = (float(end) for end in re.search(r"from (\S+) \(worst\) to (\S+) \(", instructions).groups())
    before = float(re.search(r" was then (\S+)\. Their next message", question)[1])
    reply = json.loads(question.partition("Their next message:\n\n")[2].partition("\n")[0])["text"]
    state = min(high, max(low, before + (1 if "?" in reply else -1)))
    if '"feeling"' in _wanted(question):
        return {"heard": "They try.", "feeling": "Tired.", "change": state - before, "state": state}
    mood = {"analysis": "They try.", "change": state - before, "state": state, "thought": "Hm.", "done": False}
    return mood | _words(instructions, question) if '"text"' in _wanted(question) else mood


def _words(_: str, question: str) -> dict[str, Any]:
    act = {"act": "speak"} if '"act"' in _wanted(question) else {}
    return {**act, "text": "It is the waiting that wears me out."}


def _wanted(question: str) -> str:
    """How the answer should look."""
    return question.partition("Answer with one JSON object")[2]
