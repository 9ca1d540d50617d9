// One group: the replies tried at a pivotal turn, what the user said to each, how the judge ranked them, what it told
// the model, what the model then wrote, and which words it learnt from.

let shading = "divergence";

function groupsView(report) {
  const g = report.groups;
  const runs = report.several ? report.runs.map((run, i) => [String(i), run.name, (place) => g.run[place] === i]) : [];
  return new Browser({
    name: "groups",
    records: report.texts.groups,
    height: 68,
    filters: [
      {label: "Run", options: [["all", "all", () => true], ...runs]},
      {
        label: "Show",
        options: [
          ["all", "all", () => true],
          ["judged", "judged, not tied", (place) => known(g.judge[place])],
          ["odd", "judge against state", (place) => g.judge[place] < 0],
          ["taught", "with corrections", (place) => known(g.divergence[place])],
        ],
      },
    ],
    sorts: [
      ["order", "as played", () => 0],
      ["odd", "judge against state", (place) => negative(g.judge[place])],
      ["spread", "widest spread of states", (place) => g.spread[place]],
      ["setback", "largest setback", (place) => negative(g.change[place])],
      ["change", "largest change", (place) => absolute(g.change[place])],
      ["best", "best candidate", (place) => g.best[place]],
      ["split", "least agreement of orders", (place) => negative(g.agreement[place])],
      ["far", "largest divergence", (place) => g.divergence[place]],
      ["newest", "newest step", (place) => g.step[place]],
    ],
    render: (place) => [
      rowText(
        g.snippet[place] || g.id[place],
        line(
          report.several && report.runs[g.run[place]].name,
          `step ${g.step[place]}`,
          `turn ${g.turn[place] + 1}`,
          known(g.judge[place]) ? `judge and state ${signed(g.judge[place])}` : "no ranking",
        ),
      ),
      chip(g.change[place], "the turn that was branched:"),
    ],
    detail: (place) => groupDetail(report, place),
  });
}

async function groupDetail(report, place) {
  const record = await report.texts.groups.get(place),
    g = report.groups,
    {group} = record;
  const talk = group.pivot.dialogue,
    before = trajectory(talk).at(-1),
    skipped = Math.max(0, talk.turns.length - 1);
  const link = known(g.dialogue[place])
    ? el("a", {href: `#dialogues/${g.dialogue[place]}`}, "the whole dialogue")
    : null;
  return [
    el(
      "div.head",
      {},
      el("h1", {}, talk.scenario.situation || g.id[place]),
      chip(group.pivot.change, "the turn that was branched:"),
    ),
    el("p.note", {}, `step ${g.step[place]} · reply ${g.turn[place] + 1} · ${g.id[place]} · `, link),
    groupFacts(report, place, group),
    el("h2", {}, "What had been said"),
    skipped ? el("details", {}, el("summary", {}, "from the beginning"), conversation(talk)) : null,
    conversation(talk, {from: skipped}),
    el("h2", {}, "What was tried"),
    shadeControl(report, place, record),
    el(
      "div.cards",
      {},
      byRank(group).map((i) => candidateCard(record, i, before)),
    ),
    el("h2", {}, "How it was judged"),
    el("div.grid.two", {}, judgeFigure(group, before), ordersBox(group)),
    profileBox(talk.scenario),
  ];
}

function byRank({candidates, feedback}) {
  const rank = (i) => (feedback ? feedback[i].rank : i);
  return candidates.map((_, i) => i).sort((a, b) => rank(a) - rank(b) || a - b);
}

function groupFacts(report, place, group) {
  const g = report.groups;
  const agreement = known(group.agreement)
    ? `Kendall's W ${number(group.agreement)} over ${group.orders.length} orders`
    : "read in one order";
  const fact = (name, value, tip) => el("div.fact", {"data-tip": tip}, el("span.note", {}, name), el("b", {}, value));
  return el(
    "div.facts",
    {},
    fact("candidates", String(group.candidates.length), `their states spread over ${number(g.spread[place], 1)}`),
    fact("best", signed(g.best[place], 1), "the largest change of the user's state"),
    fact(
      "judge and state",
      signed(g.judge[place]),
      "rank correlation: 1 is the same order, below 0 the judge goes against the user",
    ),
    fact("agreement of orders", known(group.agreement) ? number(group.agreement) : "–", agreement),
    fact("corrections", String(group.corrections.length), "what the teacher wrote instead of failed candidates"),
  );
}

function shadeControl(report, place, record) {
  const lessons = ["candidates", "corrections"].flatMap((kind) =>
      record.group[kind].map((_, i) => lessonOf(record, kind, i)),
    ),
    most = darkest(lessons);
  const set = async (value) => {
    shading = value;
    views.groups.fill(await groupDetail(report, place));
    byId(`shade-${value}`).focus();
  };
  const option = (value, text) =>
    el(
      "button",
      {type: "button", id: `shade-${value}`, "aria-pressed": String(shading === value), on: {click: () => set(value)}},
      text,
    );
  const full = {
    divergence: `darkest: ${number(most.divergence)} nats between teacher and student`,
    push: `darkest: ${number(most.push)}; solid line up, dotted down`,
    none: "",
  }[shading];
  const whole = record.pieces || shading === "none" ? "" : "  (of whole replies: this run has no record of words)";
  return el(
    "div.shades",
    {},
    el("span", {}, "Shade words by"),
    el(
      "span.segments",
      {role: "group", "aria-label": "Shade words by"},
      option("divergence", "divergence"),
      option("push", "advantage"),
      option("none", "nothing"),
    ),
    el("span.note", {}, full + whole),
  );
}

function candidateCard(record, i, before) {
  const {group} = record,
    {completion, reaction} = group.candidates[i],
    feedback = group.feedback?.[i],
    advantage = record.advantages[i];
  const lessons = ["candidates", "corrections"].flatMap((kind) =>
      record.group[kind].map((_, k) => lessonOf(record, kind, k)),
    ),
    most = darkest(lessons)[shading];
  const corrections = group.corrections.map((each, k) => [each, k]).filter(([each]) => each.candidate === i);
  return el(
    "article.card",
    {tabindex: "0", "aria-label": `Candidate ${letter(i)}`},
    el(
      "header",
      {},
      el(
        "span.rank",
        {"data-tip": feedback ? "rank of the judge; ties share their mean" : "no ranking"},
        feedback ? number(feedback.rank, feedback.rank % 1 ? 1 : 0) : "–",
      ),
      el("span.letter", {}, letter(i)),
      advantageBar(advantage),
      chip(reaction.state - before),
    ),
    el(
      "div.part.reply",
      {},
      el("span.who", {}, "policy"),
      lessonText(lessonOf(record, "candidates", i), shading, most),
      !completion.finished && el("p.thought", {}, "cut off at the length limit"),
    ),
    el(
      "div.part",
      {},
      el("span.who", {}, "user"),
      el("p.said", {}, reaction.text),
      reaction.thought && el("p.thought", {}, reaction.thought),
    ),
    feedback?.critique
      ? el("div.part.critique", {}, el("span.who", {}, "judge"), el("p.said", {}, feedback.critique))
      : null,
    corrections.map(([each, k]) => correctionPart(record, each, k, reaction, before, most)),
  );
}

function correctionPart(record, correction, k, original, before, most) {
  const echo = correction.reaction,
    better = echo && echo.state > original.state;
  return el(
    "div.part.correction",
    {},
    el("span.who", {}, "correction"),
    lessonText(lessonOf(record, "corrections", k), shading, most),
    echo
      ? el(
          "div.echo",
          {},
          el("p.said", {}, `“${echo.text}”`),
          chip(echo.state - before),
          el("span.verdict", {}, better ? "✓ better than the reply" : "✗ no better: not learnt"),
        )
      : el("p.thought", {}, "not shown to the user, or not answered"),
  );
}

function advantageBar(advantage) {
  const share = Math.min(1, Math.abs(advantage) / 2);
  return el(
    `span.advantage.${advantage < 0 ? "down" : "up"}`,
    {"data-tip": `advantage ${signed(advantage)}`},
    el("span.half", {}, el("span.fill", {vars: {"--share": `${100 * share}%`}})),
    el("span.value", {}, signed(advantage)),
  );
}

function judgeFigure(group, before) {
  if (!group.feedback) return el("p.panel.note", {}, "The feedback is missing: the group has weight 0.");
  const width = 420,
    height = 250,
    box = {left: 46, right: 16, top: 14, bottom: 36},
    count = group.candidates.length;
  const changes = group.candidates.map((each) => each.reaction.state - before),
    xs = span([0, ...changes], 0.1);
  const x = scale(xs, [box.left, width - box.right]),
    y = scale([0.5, count + 0.5], [box.top, height - box.bottom]);
  const drawing = svg("svg.plot", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": "Rank by change of state",
  });
  for (let rank = 1; rank <= count; rank += Math.ceil(count / 8)) {
    drawing.append(
      svg("line.grid", {x1: box.left, x2: width - box.right, y1: y(rank), y2: y(rank)}),
      svg("text.tick", {x: box.left - 8, y: y(rank) + 3.5, "text-anchor": "end"}, rank),
    );
  }
  const along = ticks(xs[0], xs[1], 5);
  for (const value of along.values)
    drawing.append(
      svg("text.tick", {x: x(value), y: height - 20, "text-anchor": "middle"}, signed(value, along.digits)),
    );
  drawing.append(
    svg("line.axis", {x1: x(0), x2: x(0), y1: box.top, y2: height - box.bottom}),
    svg("text.tick", {x: (box.left + width) / 2, y: height - 4, "text-anchor": "middle"}, "change of the user's state"),
    svg("text.tick", {x: 12, y: 12}, "rank"),
  );
  // Candidates at one place stand side by side.
  const taken = new Map();
  group.feedback.forEach(({rank}, i) => {
    const key = `${rank}|${changes[i].toFixed(2)}`,
      turn = taken.get(key) ?? 0;
    taken.set(key, turn + 1);
    const cx = x(changes[i]) + turn * 17;
    drawing.append(
      svg("circle.mark", {cx, cy: y(rank), r: 9, "data-tip": `${letter(i)}: rank ${rank}, ${signed(changes[i])}`}),
      svg("text.mark-text", {x: cx, y: y(rank) + 3.5, "text-anchor": "middle"}, letter(i)),
    );
  });
  return figure(
    "Judge and state",
    drawing,
    "best rank at the top; a judge that goes by the reaction runs from upper right to lower left",
  );
}

function ordersBox(group) {
  if (!group.orders.length) return el("p.panel.note", {}, "No order of reading is recorded.");
  const rows = group.orders.map((order, p) => [String(p + 1), ...order.map(letter)]);
  return el(
    "div.panel",
    {},
    el("b", {}, "Orders in which the judge read them"),
    table(["order", ...group.candidates.map((_, slot) => String(slot + 1))], rows),
    el(
      "p.note",
      {},
      known(group.agreement)
        ? `Kendall's W ${number(group.agreement)}: 1 when every order gives the same ranks.`
        : "With judge.permutations above 1, several orders are read and their agreement is shown here.",
    ),
  );
}
