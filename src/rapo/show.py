"""What a person sees at the end of a run: a table, two talks side by side, and where everything is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rapo.evals.battery import SAMPLES, standing_exploits
from rapo.evals.interactive import change
from rapo.evals.results import read_results
from rapo.evals.stats import Comparison, Interval
from rapo.evals.suite import Figure, Result, compare
from rapo.progress import Terminal
from rapo.types import Dialogue


def show_result(path: Path, terminal: Terminal) -> None:
    """Print the evaluation of the run at ``path`` before and after training."""
    files = [path / f"evaluation-{name}.json" for name in ("before", "after")]
    results = [each for file in files for each in read_results(file) or ()]
    others = [each for each in results if each.main != "change"]
    results = [each for each in results if each.main == "change"]
    terminal.event("result", run=str(path), summary=_summary(path))
    terminal.console.print(table(results))
    verdict(results, terminal)
    for start, trained in zip(*([r for r in others if r.speaker == s] for s in ("start", "trained")), strict=False):
        shown = [name for name in (trained.main, "harmful") if name in trained.figures]
        changes = [f"{name} {_mean(start, name):.2f} -> {_mean(trained, name):.2f}" for name in shown]
        terminal.report(f"{trained.suite} ({trained.users}): {', '.join(changes)}")
    for users in dict.fromkeys(each.users for each in results):
        pair = [next(r for r in results if r.speaker == s and r.users == users) for s in ("start", "trained")]
        terminal.console.print(side_by_side(*pair))
    terminal.say(f"everything is in {path}; look at every dialogue and group with: rapo view {path}")


def is_finished(path: Path, steps: int) -> bool:
    """Whether the run at ``path`` has done all its ``steps`` and been evaluated."""
    return (path / "summary.json").is_file() and int(_summary(path)["steps"]) >= steps


def _summary(path: Path) -> dict[str, Any]:
    file = path / "summary.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def table(results: Sequence[Result]) -> Table:
    """Of a suite of talks: one line per speaker, one section per kind of users; fits 80 columns."""
    scale = results[0].dialogues[0].scenario.scale
    span = f"{scale.low:g} to {scale.high:g}, higher is better"
    grid = _grid(f"Change of {printable(scale.name)} over a talk ({span})")
    grid.add_column("speaker", overflow="fold")
    rated = any("rating" in each.figures for each in results)
    columns = ("change", *(["rating"] if rated else []), "resolved", "distinct_2", "most_common_share")
    for name in columns:
        grid.add_column(_heading(name), justify="right", no_wrap=True)
    order = {"policy": 0, "ladder": 1, "exploit": 2}
    for users in dict.fromkeys(each.users for each in results):
        mine = sorted((each for each in results if each.users == users), key=lambda each: order[each.kind])
        if grid.row_count:
            grid.add_row()
        grid.add_row(Text(f"{users} users"), _items(mine, "talks"), style="cyan")
        for each in mine:
            cells = [_cell(name, each.figures.get(name)) for name in columns]
            grid.add_row(Text("  " + short(each.speaker)), *cells, style="bold" if each.kind == "policy" else None)
    return grid


def figures(results: Sequence[Result]) -> Table:
    """Of any suite and kind of users: one line per figure, one column per speaker; the main figure first."""
    first = results[0]
    grid = _grid(f"{first.suite}: {printable(first.users)}, {_items(results, 'items')}")
    grid.add_column("")
    for each in results:
        grid.add_column(Text(short(each.speaker)), justify="right")
    names = dict.fromkeys(name for each in results for name in each.figures)
    for name in sorted(names, key=lambda name: name != first.main):
        cells = [_cell(name, each.figures.get(name)) for each in results]
        grid.add_row(_heading(name), *cells, style="bold" if name == first.main else None)
    return grid


def comparisons(found: Sequence[tuple[Result, Result, Comparison]]) -> Table:
    """Speakers against the first one, item by item: difference of the main score, wins, ties and losses."""
    grid = _grid(f"against {short(found[0][1].speaker)}, item by item; difference of the main score [95%]")
    grid.add_column("speaker", overflow="fold")
    grid.add_column("suite and users", overflow="fold")
    for label in ("difference", "win", "tie", "loss"):
        grid.add_column(label, justify="right", no_wrap=True)
    for mine, _, each in found:
        where = f"{mine.suite}, {printable(mine.users)}"
        apart = not each.difference.low <= 0 <= each.difference.high
        numbers = (str(each.wins), str(each.ties), str(each.losses))
        grid.add_row(
            Text(short(mine.speaker)),
            Text(where),
            f"{each.difference:+.2f}",
            *numbers,
            style="bold" if apart else None,
        )
    return grid


HEADINGS = {"change": "change [95%]", "distinct_2": "distinct-2", "most_common_share": "same reply"}
SHARES = ("resolved", "most_common_share")
SIGNED = ("change",)
LABEL = 24  # characters of a speaker's name


def _grid(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _heading(name: str) -> str:
    return HEADINGS.get(name, name.replace("_", " "))


def _items(results: Sequence[Result], noun: str) -> str:
    lost, short = max(each.lost for each in results), max(each.cut_short for each in results)
    told = [f"{count} {what}" for count, what in ((lost, "lost"), (short, "cut short")) if count]
    return f"{len(results[0].items)} {noun}" + (f", up to {' and '.join(told)}" if told else "")


def _cell(name: str, figure: Figure | None) -> str:
    if figure is None or (isinstance(figure, float) and math.isnan(figure)):
        return "-"
    if name in SIGNED and isinstance(figure, Interval):
        return f"{figure:+.2f}"
    if isinstance(figure, Interval):
        return f"{figure:.2f}"
    return f"{figure:.0%}" if name in SHARES else f"{figure:.2f}"


def _mean(result: Result, name: str) -> float:
    figure = result.figures.get(name, math.nan)
    return figure.mean if isinstance(figure, Interval) else figure


def verdict(results: Sequence[Result], terminal: Terminal) -> None:
    """Say in words what training changed, user by user, and which exploits are not clearly below either policy."""
    for users in dict.fromkeys(each.users for each in results):
        start, trained = (
            next(each for each in results if each.speaker == s and each.users == users) for s in ("start", "trained")
        )
        gain = compare(trained, start, seed=0, samples=SAMPLES).difference
        if gain.low > 0:
            terminal.report(f"{users}: training clearly helped, {gain:+.2f} against the start.", "green")
        elif gain.high < 0:
            terminal.report(f"{users}: training clearly HURT, {gain:+.2f} against the start.", "red")
        else:
            terminal.report(f"{users}: no difference is shown, {gain:+.2f} against the start.", "yellow")
    for speaker in ("start", "trained"):
        exploits(results, speaker, f"the {speaker} policy", terminal)


def exploits(results: Sequence[Result], speaker: str, name: str, terminal: Terminal) -> None:
    """Say which exploits are not clearly below a speaker, if they were measured."""
    if not any(each.kind == "exploit" for each in results):
        return
    users: dict[str, list[str]] = {}
    for each in standing_exploits(results, speaker):
        users.setdefault(each.speaker, []).append(each.users)
    found = ", ".join(f"{exploit} ({', '.join(some)})" for exploit, some in users.items())
    terminal.report(f"exploits not clearly below {name}: {found or 'none'}", "yellow" if found else None)


def side_by_side(start: Result, trained: Result) -> Table:
    """The same seeker with both policies: the one whose difference is the median, neither the best nor the worst."""
    pairs = list(zip(start.dialogues, trained.dialogues, strict=True))
    pairs.sort(key=lambda pair: change(pair[1]) - change(pair[0]))
    before, after = pairs[len(pairs) // 2]
    grid = Table(
        title=f"The same user ({start.users}) before and after training", title_justify="left", show_lines=True
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


def short(speaker: str) -> str:
    """A speaker's name where there is little room: the end of a long path."""
    text = printable(speaker)
    return text if len(text) <= LABEL else "\N{HORIZONTAL ELLIPSIS}" + text[1 - LABEL :]


def printable(text: str) -> str:
    """Model text made safe to show: control characters, escapes and direction marks become visible."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
