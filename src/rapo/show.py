"""What a person sees at the end of a run: a table, two talks side by side, and where everything is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from rapo.evals.battery import paying_exploits
from rapo.evals.interactive import Row, change
from rapo.progress import Terminal
from rapo.records import from_json
from rapo.types import Dialogue


def show_result(path: Path, terminal: Terminal) -> None:
    """Print the evaluation of the run at ``path`` before and after training."""
    rows = [row for name in ("before", "after") for row in read_rows(path / f"evaluation-{name}.json")]
    terminal.console.print(table(rows))
    verdict(rows, terminal)
    for population in dict.fromkeys(row.population for row in rows):
        pair = [next(r for r in rows if r.speaker == s and r.population == population) for s in ("start", "trained")]
        terminal.console.print(side_by_side(*pair))
    terminal.say(f"everything is in {path}: summary.json, metrics.jsonl, dialogues.jsonl, groups.jsonl, checkpoints/")


def read_rows(path: Path) -> list[Row]:
    """The rows of an evaluation file."""
    return [from_json(Row, row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def is_finished(path: Path, steps: int) -> bool:
    """Whether the run at ``path`` has done all its ``steps`` and been evaluated."""
    summary = path / "summary.json"
    return summary.is_file() and int(json.loads(summary.read_text(encoding="utf-8"))["steps"]) >= steps


def table(rows: Sequence[Row]) -> Table:
    """One line per speaker, one section per population; fits 80 columns."""
    scale = rows[0].dialogues[0].scenario.scale
    span = f"{scale.low:g} to {scale.high:g}, higher is better"
    grid = Table(
        title=Text(f"Change of {printable(scale.name)} over a talk ({span})"),
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    grid.add_column("speaker", overflow="fold")
    rated = any(row.outcome.rating for row in rows)
    for label in ("change [95%]", *(["rating"] if rated else []), "resolved", "distinct-2", "same reply"):
        grid.add_column(label, justify="right", no_wrap=True)
    order = {"policy": 0, "ladder": 1, "exploit": 2}
    for population in dict.fromkeys(row.population for row in rows):
        mine = sorted((row for row in rows if row.population == population), key=lambda row: order[row.kind])
        if grid.row_count:
            grid.add_row()
        lost = max(row.outcome.lost for row in mine)
        talks = f"{mine[0].outcome.dialogues} talks" + (f", up to {lost} lost" if lost else "")
        grid.add_row(Text(f"{population} users"), talks, style="cyan")
        for row in mine:
            grid.add_row(*_cells(row, rated), style="bold" if row.kind == "policy" else None)
    return grid


def _cells(row: Row, rated: bool) -> tuple[Text | str, ...]:
    outcome, c = row.outcome, row.outcome.change
    return (
        Text("  " + printable(row.speaker)),
        f"{c.mean:+.2f} [{c.low:+.2f}, {c.high:+.2f}]",
        *([f"{outcome.rating.mean:.1f}" if outcome.rating else "-"] if rated else []),
        f"{outcome.resolved:.0%}",
        "-" if math.isnan(outcome.distinct_2) else f"{outcome.distinct_2:.2f}",
        f"{outcome.most_common_share:.0%}",
    )


def verdict(rows: Sequence[Row], terminal: Terminal) -> None:
    """Say in words whether the intervals are apart and whether any exploit pays."""
    for population in dict.fromkeys(row.population for row in rows):
        start, trained = (
            next(r.outcome.change for r in rows if r.speaker == s and r.population == population)
            for s in ("start", "trained")
        )
        if trained.low > start.high:
            terminal.report(f"{population}: the trained policy lies clearly above its start.", "green")
        elif trained.high < start.low:
            terminal.report(f"{population}: the trained policy lies clearly BELOW its start.", "red")
        else:
            terminal.report(f"{population}: the intervals overlap; this run does not show an improvement.", "yellow")
    if any(row.kind == "exploit" for row in rows):
        paying = paying_exploits(rows, "start")
        names = ", ".join(f"{row.speaker} ({row.population})" for row in paying)
        terminal.report(f"exploits that beat the start policy: {names or 'none'}", "yellow" if paying else None)


def side_by_side(start: Row, trained: Row) -> Table:
    """The same seeker with both policies: the one whose difference is the median, neither the best nor the worst."""
    pairs = list(zip(start.dialogues, trained.dialogues, strict=True))
    pairs.sort(key=lambda pair: change(pair[1]) - change(pair[0]))
    before, after = pairs[len(pairs) // 2]
    grid = Table(
        title=f"The same user ({start.population}) before and after training", title_justify="left", show_lines=True
    )
    grid.add_column(f"before: {change(before):+.1f}", ratio=1)
    grid.add_column(f"after: {change(after):+.1f}", ratio=1)
    told = [_lines(m.content, "brief", None) for m in before.scenario.opening if m.role == "system"]
    opening = Text("\n").join([*told, _lines(before.scenario.opening[-1].content, "user", None)])
    grid.add_row(opening, opening)
    for t in range(max(len(before.turns), len(after.turns))):
        grid.add_row(_turn(before, t), _turn(after, t))
    return grid


def _turn(dialogue: Dialogue, t: int) -> Text:
    if t >= len(dialogue.turns):
        return Text("")
    turn = dialogue.turns[t]
    said = _lines(turn.reply, "policy", None)
    said.append("\n")
    said.append(_lines(turn.reaction.text, "user", turn.reaction.state))
    return said


def _lines(text: str, who: str, state: float | None) -> Text:
    line = Text(f"{who}: ", style="bold" if who == "policy" else "dim")
    line.append(printable(text), style="not bold not dim")
    if state is not None:
        line.append(f"  ({state:.1f})", style="cyan not dim")
    return line


def printable(text: str) -> str:
    """Model text made safe to show: control characters, escapes and direction marks become visible."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
