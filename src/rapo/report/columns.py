"""What lists and plots need of every dialogue, group and evaluation at once: short columns, apart from the texts.

The texts go into chunks, which the page opens when they are looked at. Keys of texts are those of ``types.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rapo.ranks import mid_ranks
from rapo.report.overview import Samples, add_dialogue, add_group, overview
from rapo.report.reading import Json, RunFiles, trajectory

Column = dict[str, list[Any]]
SNIPPET = 120


class Index:
    """Collects the runs of a report.

    Args:
        add: puts the whole of a "dialogues" or "groups" record into the page.

    Attributes:
        data: what the page reads first. ``sources`` says who spoke in a dialogue; the other columns are parallel.
    """

    def __init__(self, add: Callable[[str, Json], None]) -> None:
        self._add = add
        self.data: Json = {
            "runs": [],
            "sources": [],
            "results": [],
            "dialogues": {name: [] for name in ("source", "step", "id", "snippet", "states", "pivots")},
            "groups": {name: [] for name in ("run", "step", "id", "snippet", "dialogue", "turn", "change", *FIGURES)},
        }

    def add_run(self, run: RunFiles) -> None:
        """Everything of one run."""
        samples, number = Samples(), len(self.data["runs"])
        self._training(run, number, samples)
        for result in run.results:
            self._result(result, number)
        self.data["runs"].append(overview(run, samples))

    def _training(self, run: RunFiles, number: int, samples: Samples) -> None:
        source = self._source(run=number, moment="training", speaker="policy", users="", suite="", kind="policy")
        places: dict[tuple[int, str], int] = {}
        for row in run.records("dialogues"):
            add_dialogue(samples, row["step"], row["dialogue"])
            places[row["step"], row["dialogue"]["scenario"]["id"]] = self._dialogue(
                row["dialogue"], source, row["step"]
            )
        for row in run.records("groups"):
            add_group(samples, row["step"], row["group"])
            self._group(row, number, places.get((row["step"], row["group"]["pivot"]["dialogue"]["scenario"]["id"])))

    def _source(self, **names: Any) -> int:
        self.data["sources"].append(names)
        return len(self.data["sources"]) - 1

    def _dialogue(self, dialogue: Json, source: int, step: int | None) -> int:
        columns: Column = self.data["dialogues"]
        columns["source"].append(source)
        columns["step"].append(step)
        columns["id"].append(dialogue["scenario"]["id"])
        columns["snippet"].append(_snippet(dialogue))
        columns["states"].append([short(state) for state in trajectory(dialogue)])
        columns["pivots"].append([])
        self._add("dialogues", dialogue)
        return len(columns["id"]) - 1

    def _group(self, row: Json, run: int, dialogue: int | None) -> None:
        columns: Column = self.data["groups"]
        pivot = row["group"]["pivot"]
        turn = len(pivot["dialogue"]["turns"])
        if dialogue is not None:
            self.data["dialogues"]["pivots"][dialogue].append([turn, len(columns["run"])])
        columns["run"].append(run)
        columns["step"].append(row["step"])
        columns["id"].append(pivot["dialogue"]["scenario"]["id"])
        columns["snippet"].append(_snippet(pivot["dialogue"]))
        columns["dialogue"].append(dialogue)
        columns["turn"].append(turn)
        columns["change"].append(short(pivot["change"]))
        for name, figure in FIGURES.items():
            columns[name].append(short(figure(row)))
        self._add("groups", _slim(row))

    def _result(self, result: Json, run: int) -> None:
        names = {name: result[name] for name in ("moment", "suite", "speaker", "users", "kind")}
        source = self._source(run=run, **names)
        items = result["items"]
        talks = [item.get("dialogue") for item in items]
        self.data["results"].append(
            {
                "source": source,
                "main": result["main"],
                "lost": result["lost"],
                "cut_short": result["cut_short"],
                "figures": list(result["figures"].items()),
                "ids": [item["id"] for item in items],
                "scores": {name: [item["scores"].get(name) for item in items] for name in _score_names(items)},
                "dialogues": [None if talk is None else self._dialogue(talk, source, None) for talk in talks],
                "notes": [item.get("note", "") for item in items],
            }
        )


def short(value: float | None) -> float | None:
    """Digits that nobody sees are most of a file of numbers."""
    return None if value is None else round(value, 4)


def _score_names(items: list[Json]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item["scores"]))


def _snippet(dialogue: Json) -> str:
    """What the user said last: lists show it beside the name."""
    said = [message["content"] for message in dialogue["scenario"]["opening"] if message["role"] == "user"]
    said += [turn["reaction"]["text"] for turn in dialogue["turns"][:1]]
    return said[0][:SNIPPET] if said else ""


def _slim(row: Json) -> Json:
    """Without token ids, which say nothing to people, and without log-probabilities where the tokens' texts are not."""
    keep = {"text", "finished", "logps"} if row.get("pieces") else {"text", "finished"}

    def slim(reply: Json) -> Json:
        found = {name: value for name, value in reply["completion"].items() if name in keep}
        if "logps" in found:
            found["logps"] = [short(value) for value in found["logps"]]
        return {**reply, "completion": found}

    group = row["group"]
    replies = {name: [slim(reply) for reply in group[name]] for name in ("candidates", "corrections")}
    return {**row, "group": {**group, **replies}}


def _states(row: Json) -> list[float]:
    return [candidate["reaction"]["state"] for candidate in row["group"]["candidates"]]


def _spread(row: Json) -> float | None:
    states = _states(row)
    return max(states) - min(states) if states else None


def _best(row: Json) -> float | None:
    states = _states(row)
    return max(states) - trajectory(row["group"]["pivot"]["dialogue"])[-1] if states else None


def judge_and_state(row: Json) -> float | None:
    """Spearman's rank correlation of the judge's order with the users' states: 1 where the judge goes by them.

    None without feedback, and where all ranks or all states are equal.
    """
    if row["group"]["feedback"] is None:
        return None
    ranks = [-each["rank"] for each in row["group"]["feedback"]]
    return spearman(ranks, _states(row))


def spearman(a: list[float], b: list[float]) -> float | None:
    """The correlation of the mid-ranks of two lists of one length; None where either list is constant."""
    centre = (len(a) + 1) / 2
    x, y = ([rank - centre for rank in mid_ranks(values)] for values in (a, b))
    norm = math.sqrt(math.fsum(u * u for u in x) * math.fsum(v * v for v in y))
    return math.fsum(u * v for u, v in zip(x, y, strict=True)) / norm if norm else None


def _divergence(row: Json) -> float | None:
    known = [value for value in row["divergences"] if value is not None]
    return max(known, default=None)


FIGURES: dict[str, Callable[[Json], float | None]] = {
    "candidates": lambda row: len(row["group"]["candidates"]),
    "spread": _spread,
    "best": _best,
    "judge": judge_and_state,
    "agreement": lambda row: row["group"]["agreement"],
    "divergence": _divergence,
}
