"""The report in a real browser: it draws, filters, goes by the keyboard, and hostile text in it does nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unicodedata import category

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from browser import chromium, obstacle
from made_run import MadeRun
from rapo.evals.results import read_results, write_results
from rapo.evals.stats import bootstrap_mean
from rapo.evals.suite import Item, Result, compare
from rapo.progress import Terminal
from rapo.report import write_report
from rapo.show import printable, show_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

needs_browser = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")
VIEWS = ("overview", "dialogues", "groups", "compare")
MARK = "window.__pwned=1"
PAYLOADS = (
    f"<script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"<svg onload={MARK}></svg>",
    f"<svg><script>{MARK}</script></svg>",
    f"<svg><animate onbegin={MARK} attributeName=x dur=1s>",
    '<iframe srcdoc="<script>parent.__pwned=1</script>"></iframe>',
    f"<iframe src=javascript:{MARK}></iframe>",
    f"<a href=javascript:{MARK} autofocus onfocus={MARK}>x</a>",
    f"javascript:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    f"<details open ontoggle={MARK}>x</details>",
    f"<body onload={MARK}>",
    f"<input autofocus onfocus={MARK}>",
    f"<video><source onerror={MARK}></video>",
    f"<object data=javascript:{MARK}></object>",
    f"<form action=javascript:{MARK}><button>x</button></form>",
    f'<meta http-equiv=refresh content="0;url=javascript:{MARK}">',
    "<base href=http://127.0.0.1:9/>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "<style>@import 'http://127.0.0.1:9/x.css'; body{display:none}</style>",
    f"<math><mtext></mtext><mglyph><style><img src onerror={MARK}>",
    f"<template><script>{MARK}</script></template>",
    f"${{{MARK}}}",
    f"{{{{constructor.constructor('{MARK}')()}}}}",
    f"';{MARK};//",
    f'"}}];{MARK};[{{"',
)
BEFORE = (
    *("", "</script>", "</style>", "</title>", "\"'>", "-->", "<!--<script>", "]]>"),
    *("\u202e", "\u2066\u200b", "\x1b[2J\x1b[1;31m", "\x1b]8;;http://127.0.0.1:9/\x07", "\x9b31m", "\x00\x08\x7f"),
)
AFTER = ("", "\u2069\u2028", "</script><script>", "\ud800\ufeff\x1b]0;owned\x07")
HOSTILE = ["".join(parts) for parts in product(BEFORE, PAYLOADS, AFTER)]


def visible(text: str) -> str:
    """How the page shows a text: what cannot be seen, or changes how the rest is read, is written out."""
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return "".join(f"⟨{ord(c):04X}⟩" if category(c) in unseen and c not in "\n\t" else c for c in text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = MadeRun(steps=20, dialogues=10, groups=3, evaluated=12).write(tmp_path_factory.mktemp("made") / "run")
    write_report([run], run / "report.html")
    return run


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def open_page(browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """``open_page(file, "groups/3")``: that view; whatever the browser complains of or asks for fails the test."""
    opened: list[Page] = []

    def show(file: Path, where: str = "overview", **options: Any) -> Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
        opened.append(page)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: complaints.append(f"request: {request.url}") if _foreign(request.url) else 0)
        page.on("framenavigated", lambda frame: complaints.append(f"frame: {frame.url}") if _foreign(frame.url) else 0)
        page.goto(f"{file.as_uri()}#{where}")
        page.locator("html[data-ready]").wait_for()
        return page

    yield show
    for page in opened:
        page.close()
    assert complaints == []


def _foreign(url: str) -> bool:
    return not url.startswith(("file:", "blob:"))


def place(page: Page) -> str:
    return page.url.partition("#")[2]


@needs_browser
@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}],
    ids=["light", "dark", "phone"],
)
def test_every_view_draws_within_its_width(run: Path, open_page: Callable[..., Page], options: dict[str, Any]) -> None:
    page = open_page(run / "report.html", **options)
    for view in VIEWS:
        page.goto(f"{(run / 'report.html').as_uri()}#{view}" + ("/1" if view in {"dialogues", "groups"} else ""))
        page.locator("main." + view + " h1").first.wait_for()
        assert page.locator("svg.plot").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (options.get("color_scheme") == "dark")


@needs_browser
def test_search_filter_and_order(run: Path, open_page: Callable[..., Page]) -> None:
    rows = [json.loads(line)["dialogue"] for line in (run / "dialogues.jsonl").read_text().splitlines()]
    page = open_page(run / "report.html", "dialogues")
    count = page.locator(".count")
    assert count.inner_text() == f"{len(rows) + 2 * 12} dialogues"
    said = rows[17]["turns"][1]["reaction"]["text"]
    page.get_by_label("Search").fill(said.upper())
    page.locator(".count", has_text="1 dialogue").wait_for()
    page.locator(".row").click()
    page.locator(".message", has_text=said).first.wait_for()
    page.get_by_label("Search").fill("")
    page.get_by_label("From").select_option(label="trained, after, strangers")
    page.locator(".count", has_text="12 dialogues").wait_for()
    page.get_by_label("From").select_option(label="training")
    page.get_by_label("Sort").select_option(label="largest gain")
    changes = [row["turns"][-1]["reaction"]["state"] - row["scenario"]["start"] for row in rows]
    assert page.locator(".row .chip").first.inner_text().endswith(f"{max(changes):+.1f}")


@needs_browser
def test_only_rows_in_sight_exist(run: Path, open_page: Callable[..., Page]) -> None:
    page = open_page(run / "report.html", "dialogues")
    assert 10 < page.locator(".row").count() < 40
    page.locator(".list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    page.locator("[aria-posinset='224']").wait_for()
    assert page.locator(".row").count() < 40


@needs_browser
def test_the_keyboard_is_enough(run: Path, open_page: Callable[..., Page]) -> None:
    page = open_page(run / "report.html")
    press = page.keyboard.press
    for key, view in zip("2341", (*VIEWS[1:], VIEWS[0]), strict=True):
        press(key)
        page.locator(f"main.{view}").wait_for()
    press("3")
    page.locator("main.groups .card").first.wait_for()
    for key, at in (("j", 1), ("ArrowRight", 2), ("k", 1)):
        press(key)
        page.locator(f"[aria-posinset='{at + 1}'][aria-selected='true']").wait_for()
        assert place(page) == f"groups/{at}"
    press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("j2")  # letters, not commands
    assert page.get_by_label("Search").input_value() == "j2" and place(page) == "groups/1"
    press("Escape")
    press("?")
    assert page.locator("#help").is_visible()
    press("Escape")
    assert not page.locator("#help").is_visible()
    press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@needs_browser
def test_candidates_stand_by_rank_with_their_echoes_and_words(run: Path, open_page: Callable[..., Page]) -> None:
    record = json.loads((run / "groups.jsonl").read_text().splitlines()[0])
    group = record["group"]
    order = sorted(range(len(group["candidates"])), key=lambda i: group["feedback"][i]["rank"])
    page = open_page(run / "report.html", "groups/0")
    cards = page.locator(".card")
    for card, i in zip(cards.all(), order, strict=True):
        shown = card.inner_text()
        for text in (group["candidates"][i]["reaction"]["text"], group["feedback"][i]["critique"]):
            assert text in shown
    shaded = page.locator(".correction .word.up").first
    expected = record["token_divergences"][group["corrections"].index(_first_correction(group, order))][0]
    shaded.hover()
    assert f"divergence {expected:.3f} nats" in page.locator("#tip").inner_text()
    page.get_by_role("button", name="advantage").click()
    page.locator(".reply .word.down").first.hover()
    assert re.search(r"advantage −\d\.\d\d, push −\d\.\d\d · probability 0\.\d\d", page.locator("#tip").inner_text())


def _first_correction(group: dict[str, Any], order: list[int]) -> dict[str, Any]:
    places = [each["candidate"] for each in group["corrections"]]
    return next(group["corrections"][places.index(i)] for i in order if i in places)


@needs_browser
def test_the_same_seeker_stands_side_by_side(run: Path, open_page: Callable[..., Page]) -> None:
    page = open_page(run / "report.html", "dialogues/200")
    titles = page.locator(".talk h3").all_inner_texts()
    assert [title.split(",")[0] for title in titles] == ["start", "trained"]
    before, after = (read_results(run / f"evaluation-{name}.json")[0].dialogues[0] for name in ("before", "after"))  # type: ignore[index]
    for column, talk in zip(page.locator(".talk").all(), (before, after), strict=True):
        assert all(turn.reply in column.inner_text() for turn in talk.turns)


@needs_browser
def test_a_comparison_is_that_of_the_library(run: Path, tmp_path: Path, open_page: Callable[..., Page]) -> None:
    other = MadeRun(steps=2, evaluated=9, seed=5).write(tmp_path / "other")
    page = open_page(write_report([run, other], tmp_path / "both.html"), "compare")
    a, b = (read_results(each / "evaluation-after.json")[0] for each in (run, other))  # type: ignore[index]
    expected = compare(a, b, seed=0, samples=4000)
    shares = page.locator(".versus").get_attribute("aria-label")
    assert shares == f"A wins {expected.wins}, tie {expected.ties}, B wins {expected.losses}"
    told = page.locator(".plot text.value").first.text_content() or ""
    mean, low, high = (float(value) for value in re.findall(r"[+-]?\d+\.\d+", told.replace("−", "-")))
    d = expected.difference
    assert mean == pytest.approx(d.mean, abs=0.006)
    # Two bootstraps of 9 pairs: their bounds differ by chance, by less than a tenth of the interval.
    assert (low, high) == pytest.approx((d.low, d.high), abs=0.1 * (d.high - d.low))


@needs_browser
def test_a_suite_without_talks_shows_its_figures_and_notes(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    run = MadeRun(steps=2, evaluated=6).write(tmp_path / "run")
    for moment, speaker, scores in (("before", "start", (0.2, 0.4, 0.9)), ("after", "trained", (0.5, 0.4))):
        items = tuple(Item(f"row {i}", {"rouge_l": score}, note=f"why {i}") for i, score in enumerate(scores))
        figures = {"rouge_l": bootstrap_mean(scores, seed=0, samples=50), "distinct_2": 0.31, "self_bleu": 0.88}
        rows = Result("esconv", speaker, "test rows", "rouge_l", items, figures, lost=3 - len(scores))
        file = run / f"evaluation-{moment}.json"
        write_results(file, [*(read_results(file) or ()), rows])
    page = open_page(write_report([run], tmp_path / "page.html"))
    tile = page.locator(".tile", has_text="rouge l, esconv, test rows").inner_text()
    assert "0.50 → 0.45" in " ".join(tile.split())
    page.locator("summary", has_text="All figures").nth(1).click()
    shown = page.locator("details[open] table").inner_text().split("\n")
    assert [row.split("\t") for row in shown] == [
        ["", "rouge l", "distinct 2", "self bleu", "lost"],
        ["before: start", "0.50", "0.31", "0.88", "0"],
        ["after: trained", "0.45", "0.31", "0.88", "1"],
    ]
    page.keyboard.press("4")
    section = page.locator("main.compare section", has=page.get_by_role("heading", name="esconv, test rows")).last
    assert section.locator(".versus").get_attribute("aria-label") == "A wins 1, tie 1, B wins 0"
    section.locator("summary").click()
    section.locator(".noted").nth(1).hover()
    assert page.locator("#tip").inner_text() == "why 0"


@needs_browser
@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_a_plot_is_saved(run: Path, open_page: Callable[..., Page], tmp_path: Path, kind: str) -> None:
    page = open_page(run / "report.html")
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save Change of state over a talk as {kind}").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == f"change-of-state-over-a-talk.{kind.lower()}"
    data = file.read_bytes()
    if kind == "PNG":
        assert data.startswith(b"\x89PNG") and len(data) > 5000
    else:
        assert b'fill="rgb(0, 114, 178)"' in data  # the blue of the style sheet, which is not in the file
        assert len(re.findall(rb"<(?:\w+:)?circle", data)) == 20  # a dot for each step


@needs_browser
def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    assert len(set(HOSTILE)) >= 500
    texts = cycle(HOSTILE)
    made = MadeRun(steps=3, dialogues=12, groups=12, candidates=8, evaluated=4, text=lambda _: next(texts))
    run = made.write(tmp_path / "run")
    page = open_page(write_report([run], run / "report.html"))
    shown = set()
    for view, count in (("dialogues", 3 * 12 + 2 * 4), ("groups", 3 * 12)):
        for number in range(count):
            page.evaluate(f"location.hash = '{view}/{number}'")
            page.locator(f"main.{view} .detail[data-place='{number}']").wait_for(state="attached")
            shown |= set(page.evaluate(EVERYTHING))
    whole = "\n".join(shown)
    assert [text for text in HOSTILE if visible(text) not in whole] == []
    assert {c for c in whole if not c.isprintable()} <= {"\n", "\t"}
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate(INTRUDERS) == 0


# Opens what is folded, points at what has a tip, and returns the texts.
EVERYTHING = """() => {
  const every = (what) => [...document.querySelectorAll(what)];
  every('details').forEach((each) => { each.open = true; });
  every('[data-tip]').forEach((each) => each.dispatchEvent(new PointerEvent('pointerover', {bubbles: true})));
  return every('main p, main dd, main h1, main .row-title').map((each) => each.textContent);
}"""
# Elements and attributes that the report itself never has.
INTRUDERS = """() => {
  const strange = 'img, iframe, object, embed, base, form, link, video, math, template, style ~ style, '
    + '[onload], [onerror], [onfocus], [ontoggle], [onbegin], a[href^="javascript"], a[href^="data"]';
  return document.querySelectorAll(strange).length + [...document.scripts].filter((each) => !each.type).length - 1;
}"""


def test_hostile_text_reaches_the_terminal_without_control_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(printable(text).isprintable() for text in HOSTILE)
    texts = cycle(HOSTILE)

    def write(_: Random) -> str:
        return next(texts)

    shown = 0
    for part in range(8):
        run = MadeRun(steps=0, turns=30, evaluated=1, text=write).write(tmp_path / str(part))
        show_result(run, Terminal())
        out = capsys.readouterr().out
        shown += out.count("policy: ")
        assert {c for c in out if not c.isprintable()} == {"\n"}
    assert shown == 8 * 2 * 30
