"""How large the report of a long run is, how long it takes to make and to open, and how it scrolls in a real browser.

    python benchmarks/report.py [--dialogues 10000 --groups 2000]

A made run: talks of 6 turns, groups of 8 candidates and 2 corrections with a value for every token, sentences of 8 to
24 words drawn at random. Each page is opened in a tab of its own; "open" is from the call until the view is drawn, the
file read from disk; the median of ``--runs``. Scrolling moves the list by half a screen or more in every frame, end to
end; a frame takes 16.7 ms where nothing is late. The first search opens every text in the page.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from browser import chromium, obstacle
from harness import table, write_json
from made_run import MadeRun
from rapo.report import write_report

SCROLL = """async (frames) => {
  const list = document.querySelector('.list'), times = [];
  let last = await new Promise(requestAnimationFrame);
  const step = Math.max(list.clientHeight / 2, (list.scrollHeight - list.clientHeight) / frames);
  for (let i = 0; i < frames; i += 1) {
    list.scrollTop = (list.scrollTop + step) % (list.scrollHeight - list.clientHeight);
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}"""
VIEWS = ("overview", "dialogues", "groups", "compare")


def main() -> None:
    """Make a run, its report, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("runs/report.json"))
    args = parser.parse_args()
    if reason := obstacle():
        parser.error(reason)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "run", args.dialogues, args.groups, args.runs)
    rows = [[name, f"{value:,.2f}"] for name, value in found.items()]
    print(table(["", "value"], rows))
    write_json(
        args.json, {"settings": {name: getattr(args, name) for name in ("dialogues", "groups", "runs")}, "found": found}
    )


def measure(run: Path, dialogues: int, groups: int, runs: int) -> dict[str, float]:
    """Sizes in MB, times in seconds, frames in milliseconds."""
    steps = max(1, dialogues // 100)
    MadeRun(steps, dialogues // steps, groups // steps, candidates=8, turns=6, evaluated=64).write(run)
    page, begun = run / "report.html", time.perf_counter()
    write_report([run], page)
    found = {"make, s": time.perf_counter() - begun}
    found["records, MB"] = sum(file.stat().st_size for file in run.glob("*.jsonl")) / 1e6
    found["page, MB"] = page.stat().st_size / 1e6
    with chromium() as browser:
        for view in VIEWS:
            found[f"open {view}, s"] = statistics.median(_open(browser, page, view) for _ in range(runs))
        for view in ("dialogues", "groups"):
            found |= _use(browser, page, view)
    return found


def _open(browser: Any, page: Path, view: str) -> float:
    tab = browser.new_page()
    begun = time.perf_counter()
    tab.goto(f"{page.as_uri()}#{view}", wait_until="commit")
    tab.wait_for_selector("html[data-ready]")
    seconds = time.perf_counter() - begun
    tab.close()
    return seconds


def _use(browser: Any, page: Path, view: str) -> dict[str, float]:
    """Frames of a list that is scrolled end to end, and the first search, which opens every text."""
    tab = browser.new_page()
    tab.goto(f"{page.as_uri()}#{view}")
    tab.wait_for_selector("html[data-ready]")
    times = sorted(tab.evaluate(SCROLL, 240))
    tab.fill("input[type=search]", "letter winter zzz")
    begun = time.perf_counter()
    tab.locator(".count", has_text=re.compile("^0 ")).wait_for()
    seconds = time.perf_counter() - begun
    tab.close()
    names = {"median": times[len(times) // 2], "95th": times[int(0.95 * len(times))], "worst": times[-1]}
    frames = {f"scroll {view}, {name} frame, ms": value for name, value in names.items()}
    return {**frames, f"first search in {view}, s": seconds}


if __name__ == "__main__":
    main()
