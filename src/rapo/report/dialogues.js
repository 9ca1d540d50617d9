// Every talk: what was said, how the user's state went, which turns were branched; the same user with another speaker.

function dialoguesView(report) {
  const d = report.dialogues,
    change = (place) => changeOf(d.states[place]);
  const sources = report.sources
    .map((source, i) => [String(i), sourceName(report, i), (place) => d.source[place] === i])
    .filter(([i]) => d.source.includes(Number(i)));
  return new Browser({
    name: "dialogues",
    records: report.texts.dialogues,
    height: 68,
    filters: [
      {label: "From", options: [["all", "all", () => true], ...sources]},
      {
        label: "Show",
        options: [
          ["all", "all", () => true],
          ["better", "users better off", (place) => change(place) > 0],
          ["worse", "users worse off", (place) => change(place) < 0],
          ["pivotal", "with pivotal turns", (place) => d.pivots[place].length > 0],
        ],
      },
    ],
    sorts: [
      ["order", "as played", () => 0],
      ["gain", "largest gain", change],
      ["loss", "largest loss", (place) => negative(change(place))],
      ["moved", "largest change", (place) => absolute(change(place))],
      ["newest", "newest step", (place) => d.step[place]],
      ["turns", "most turns", (place) => d.states[place].length],
    ],
    render: (place) => [
      rowText(
        d.snippet[place] || d.id[place],
        line(sourceName(report, d.source[place]), stepOf(d.step[place]), d.pivots[place].length > 0 && "◆ pivotal"),
      ),
      spark(d.states[place]),
      chip(change(place)),
    ],
    detail: (place) => dialogueDetail(report, place),
  });
}

const stepOf = (step) => known(step) && `step ${step}`;
const scaleText = ({name, low, high}) => `${name} ${low} to ${high}, higher is better`;
const negative = (value) => (known(value) ? -value : null);
const absolute = (value) => (known(value) ? Math.abs(value) : null);

function sourceName(report, source) {
  const {moment, users, kind} = report.sources[source];
  return [
    report.speaker(source),
    kind === "policy" && moment !== "training" ? moment : null,
    users ? report.occasion(report.sources[source]) : null,
  ]
    .filter(Boolean)
    .join(", ");
}

// The talk to set beside this one: of a policy before training the one after it, and the other way round.
function partner(report, place) {
  const mine = report.sources[report.dialogues.source[place]];
  if (mine.kind !== "policy") return null;
  return (
    report.sameSeeker(place).find((other) => {
      const theirs = report.sources[report.dialogues.source[other]];
      return other !== place && theirs.kind === "policy" && theirs.run === mine.run && theirs.moment !== mine.moment;
    }) ?? null
  );
}

async function dialogueDetail(report, place, beside = partner(report, place)) {
  const d = report.dialogues,
    shown = known(beside) ? [place, beside].sort((a, b) => a - b) : [place];
  const talks = await Promise.all(shown.map((each) => report.texts.dialogues.get(each)));
  const {scenario} = talks[shown.indexOf(place)];
  const others = report.sameSeeker(place).filter((other) => other !== place);
  const pick = others.length
    ? choice(
        "Beside it",
        [["", "nothing"], ...others.map((other) => [other, sourceName(report, d.source[other])])],
        beside ?? "",
        async (key) => views.dialogues.fill(await dialogueDetail(report, place, key === "" ? null : Number(key))),
      )
    : null;
  return [
    el("div.head", {}, el("h1", {}, scenario.situation || d.id[place]), chip(changeOf(d.states[place]))),
    el(
      "p.note",
      {},
      line(sourceName(report, d.source[place]), stepOf(d.step[place]), d.id[place], scaleText(scenario.scale)),
    ),
    pick,
    trajectoryFigure(report, shown, scenario),
    el(
      `div.talks.n${shown.length}`,
      {},
      shown.map((each, i) => talkColumn(report, each, talks[i], shown.length > 1)),
    ),
    profileBox(scenario),
  ];
}

function trajectoryFigure(report, shown, scenario) {
  const inks = shown.length > 1 ? ["orange", "blue"] : ["blue"];
  const series = shown.map((place, i) => ({
    name: sourceName(report, report.dialogues.source[place]),
    ink: inks[i],
    dots: 4,
    dashed: shown.length > 1 && i === 0,
    points: report.dialogues.states[place].map((state, t) => [t, state]),
    marks: report.dialogues.pivots[place].map(([turn]) => [
      turn + 1,
      report.dialogues.states[place][turn + 1],
      `pivotal turn ${turn + 1}: this reply was branched`,
    ]),
  }));
  const pivotal = series.some((each) => each.marks.length);
  return figure(
    "Trajectory",
    linePlot({
      label: `Trajectory of ${scenario.scale.name}`,
      series,
      xName: `reply${pivotal ? "   (◆ pivotal: branched in training)" : ""}`,
      yRange: [scenario.scale.low, scenario.scale.high],
      width: Math.min(760, paneWidth()),
      height: 200,
    }),
    `${scenario.scale.name} after each reply`,
    shown.length > 1 ? legend(series) : null,
  );
}

const paneWidth = () => (innerWidth > 860 ? innerWidth - 380 - 80 : innerWidth - 48);

function talkColumn(report, place, talk, titled) {
  const d = report.dialogues,
    states = trajectory(talk),
    pivots = new Map(d.pivots[place]);
  return el(
    "section.talk",
    {},
    titled && el("h3", {}, sourceName(report, d.source[place]), " ", chip(changeOf(states))),
    conversation(talk, {
      mark: (turn) =>
        pivots.has(turn) && el("a.pivot-link", {href: `#groups/${pivots.get(turn)}`}, "◆ pivotal: open the group"),
    }),
  );
}

// Messages from the opening on; `mark(turn)` may add something to a reply. The bar beside a reaction is the state.
function conversation(talk, {mark = () => null, from = 0} = {}) {
  const {opening, scale: range, start} = talk.scenario,
    states = trajectory(talk);
  const first = opening.map((message, i) =>
    message.role === "user" && i === opening.length - 1
      ? said("user", message.content, {state: start, range})
      : said({assistant: "policy", user: "user", system: "brief"}[message.role], message.content),
  );
  return el(
    "div.conversation",
    {},
    from ? null : first,
    talk.turns.map((turn, t) =>
      t < from
        ? null
        : [
            said("policy", turn.reply, {extra: mark(t)}),
            said("user", turn.reaction.text, {
              state: turn.reaction.state,
              change: turn.reaction.state - states[t],
              thought: turn.reaction.thought,
              range,
              end: turn.reaction.done,
            }),
          ],
    ),
  );
}

function said(who, text, {state = null, change = null, thought = "", range = null, extra = null, end = false} = {}) {
  return el(
    `div.message.${who}`,
    {},
    el("span.who", {}, who),
    el(
      "div.bubble",
      {},
      el("p.said", {}, text),
      thought && el("p.thought", {}, thought),
      end && el("p.thought", {}, "ends the talk here"),
      extra,
    ),
    known(state)
      ? el(
          "div.gauge",
          {"data-tip": `${range.name} ${number(state)}${known(change) ? ` (${signed(change)})` : ""}`},
          meter(state, range),
          el("span.gauge-text", {}, number(state, 1)),
          known(change) && chip(change),
        )
      : null,
  );
}

function meter(state, {low, high}) {
  const share = Math.min(1, Math.max(0, (state - low) / (high - low)));
  return el("span.meter", {}, el("span.fill", {vars: {"--share": `${100 * share}%`}}));
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(value.some((each) => String(each).length > 24) ? "\n" : ", ");
  return value && typeof value === "object" ? JSON.stringify(value) : String(value);
}

function profileBox(scenario) {
  const facts = Object.entries(scenario.profile ?? {});
  if (!facts.length) return null;
  return el(
    "details",
    {},
    el("summary", {}, "The user's profile, hidden from the policy"),
    el(
      "dl",
      {},
      facts.map(([key, value]) => [el("dt", {}, words(key)), el("dd", {}, plain(value))]),
    ),
  );
}
