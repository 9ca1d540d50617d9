// The first view: what came of the run, how it got there, what it cost, what it is made of.

const CURVES = [
  ["Change of state over a talk", ["state_change"], "mean of the dialogues played"],
  ["Change by a candidate", ["candidate_change"], "state after the reply less before"],
  [
    "Teacher lift",
    ["teacher_lift", "lift_by_chance"],
    "share of corrections that beat the reply; and of other candidates",
  ],
  [
    "Variety",
    ["distinct_2", "most_common_share", "degenerate_share"],
    "different word pairs; same reply; broken replies",
  ],
  ["Entropy of the next token", ["entropy"], "nats, on ranked replies"],
  ["Divergence from the teacher", ["divergence"], "nats per taught token"],
  ["KL to the start policy", ["kl_to_start"], "nats per token"],
  [
    "Feedback",
    ["missing_feedback", "tied_groups", "judge_agreement"],
    "groups without it; groups that tie; Kendall's W",
  ],
  ["The judge's habits", ["length_correlation", "slot_bias"], "rank by length; rank by place read"],
];
const PHASES = ["play", "branch", "judge", "correct", "update", "idle"];
const SMOOTH = 5;

function overviewView(report) {
  return report.runs.map((run, number) =>
    el(
      "section.run",
      {},
      runHead(run),
      outcomeTiles(report, number),
      outcomePlots(report, number),
      alarmBox(run),
      curves(run),
      costs(run),
      about(run),
    ),
  );
}

function runHead(run) {
  const {state, done, steps, seed} = run.status;
  const told = [
    `step ${done} of ${steps}`,
    `seed ${seed}`,
    run.summary.seconds ? duration(run.summary.seconds) : null,
  ].filter(Boolean);
  return el(
    "div.head",
    {},
    el("h1", {}, run.name),
    el(`span.state.${state.replace(" ", "-")}`, {}, state),
    el("span.note", {}, told.join(" · ")),
  );
}

// Results of one run by suite and users; each with what its policies and its scripted speakers reached.
function outcomes(report, number) {
  const found = new Map();
  for (const result of report.results) {
    const source = report.sources[result.source];
    if (source.run !== number) continue;
    const key = JSON.stringify([source.suite, source.users]);
    if (!found.has(key)) found.set(key, {suite: source.suite, users: source.users, main: result.main, rows: []});
    found.get(key).rows.push({...source, ...mainFigure(result), items: result.ids.length, result});
  }
  return [...found.values()];
}

function mainFigure(result) {
  const figure = Object.fromEntries(result.figures)[result.main];
  return known(figure?.mean) ? figure : {mean: figure ?? null, low: figure ?? null, high: figure ?? null};
}

const policyRow = (group, moment) => group.rows.find((row) => row.kind === "policy" && row.moment === moment);

function outcomeTiles(report, number) {
  const run = report.runs[number],
    sum = (name) => (run.metrics[name] ?? []).reduce((total, value) => total + (value ?? 0), 0);
  const tiles = outcomes(report, number)
    .slice(0, 4)
    .map((group) => {
      const before = policyRow(group, "before"),
        after = policyRow(group, "after");
      if (!before && !after) return null;
      const title = `${words(group.main)}, ${report.occasion(group)}`;
      return tile(
        title,
        el(
          "span",
          {},
          before && el("span.was", {}, `${scored(group.main, before.mean)} → `),
          el("b", {}, scored(group.main, (after ?? before).mean)),
        ),
        after
          ? `95 % ${scored(group.main, after.low)} to ${scored(group.main, after.high)}, ${plural(after.items, "item")}`
          : "before training",
      );
    });
  const roles = Object.values(run.calls),
    total = (name) => roles.reduce((all, role) => all + role[name], 0);
  tiles.push(tile("Reactions asked", number_(sum("simulator_calls")), `${number_(sum("judge_calls"))} judgements`));
  if (roles.length)
    tiles.push(
      tile(
        "Cost of language models",
        `${number(total("cost"), 2)}`,
        `${number_(total("calls"))} calls, ${number_(total("prompt_tokens") + total("completion_tokens"))} tokens`,
      ),
    );
  tiles.push(
    tile(
      "Tokens learnt from",
      number_(sum("macro_tokens") + sum("micro_tokens")),
      `${number_(sum("sampled_tokens"))} sampled`,
    ),
  );
  return el("div.tiles", {}, tiles);
}

const number_ = (value) => Math.round(value).toLocaleString("en");
const tile = (title, value, note) =>
  el("div.tile", {}, el("span.tile-title", {}, title), el("span.tile-value", {}, value), el("span.note", {}, note));

function outcomePlots(report, number) {
  const groups = outcomes(report, number);
  if (!groups.length) return el("p.empty", {}, "No evaluation is finished yet.");
  const wide = innerWidth > 1000 && groups.length > 1,
    width = Math.min(wide ? 560 : 900, innerWidth - 56);
  return el(
    `div.grid${wide ? ".two" : ""}`,
    {},
    groups.map((group) => {
      const scripted = group.rows.filter((row) => row.kind !== "policy");
      const rows = [...group.rows.filter((row) => row.kind === "policy"), ...scripted].map((row) => ({
        ...row,
        label: rowLabel(row),
        strong: row.kind === "policy",
        ink: row.kind !== "policy" ? "grey" : row.moment === "before" ? "orange" : "blue",
        gap: row === scripted[0] ? 12 : 0,
      }));
      const title = `Before and after: ${report.occasion(group)}`,
        xName = `${words(group.main)} (${group.suite}), mean and 95 % interval`;
      const plot = forestPlot({label: title, rows, width, xName, tell: (value) => scored(group.main, value)});
      return el(
        "div",
        {},
        figure(title, plot, `${plural(Math.max(...group.rows.map((row) => row.items)), "item")} each`),
        figuresTable(rows),
      );
    }),
  );
}

const rowLabel = ({kind, moment, speaker}) =>
  kind === "policy" && (moment === "before" || moment === "after") ? `${moment}: ${speaker}` : speaker;

// Every figure of every speaker: variety tells a policy that found one reply for all from one that listens.
function figuresTable(rows) {
  const names = [...new Set(rows.flatMap((row) => row.result.figures.map(([name]) => name)))],
    counts = ["lost", "cut_short"].filter((name) => rows.some((row) => row.result[name]));
  const cells = ({label, result}) => {
    const figures = Object.fromEntries(result.figures);
    return [
      label,
      ...names.map((name) => scored(name, figures[name]?.mean ?? figures[name])),
      ...counts.map((name) => String(result[name])),
    ];
  };
  return el(
    "details",
    {},
    el("summary", {}, "All figures"),
    table(["", ...[...names, ...counts].map(words)], rows.map(cells)),
  );
}

function alarmBox(run) {
  if (!run.alarms.length)
    return el(
      "p.calm",
      {},
      el("b", {}, "✓ No alarms. "),
      "Missing feedback, ties, slot and length bias, broken replies and teacher lift stayed within bounds.",
    );
  return el(
    "details.alarms",
    {open: run.alarms.length < 6},
    el("summary", {}, `⚠ ${plural(run.alarms.length, "alarm")}`),
    el(
      "ul",
      {},
      run.alarms.map(([step, text]) => el("li", {}, el("b", {}, `step ${step}  `), text)),
    ),
  );
}

function curves(run) {
  if (!run.metrics.step) return el("p.empty", {}, "No training step is finished yet.");
  const shown = new Set([
    "step",
    ...CURVES.flatMap(([, names]) => names),
    ...PHASES.map((phase) => `seconds_${phase}`),
  ]);
  const rest = Object.keys(run.metrics).filter((name) => !shown.has(name) && run.metrics[name].some(known));
  const more = el(
    "details",
    {
      on: {
        toggle: () => {
          if (more.open && more.children.length === 1)
            more.append(
              el(
                "div.grid.three",
                {},
                rest.map((name) => curve(run, words(name), [name], "")),
              ),
            );
        },
      },
    },
    el("summary", {}, `${plural(rest.length, "other metric")}`),
  );
  return el(
    "section",
    {},
    el("h2", {}, "Learning curves"),
    el(
      "p.note",
      {},
      `Dots are steps, lines their mean over ${SMOOTH}. ` +
        "Bands are 95 % intervals of a step's mean, where it is one of independent talks or groups.",
    ),
    el(
      "div.grid.three",
      {},
      CURVES.map((each) => curve(run, ...each)),
    ),
    rest.length ? more : null,
  );
}

function curve(run, title, names, note) {
  const steps = run.metrics.step,
    present = names.filter((name) => run.metrics[name]?.some(known));
  if (!present.length) return null;
  const series = present.flatMap((name, i) => {
    const values = run.metrics[name],
      ink = INKS[i],
      few = steps.length <= 120;
    return [
      {
        ink,
        points: steps.map((step, t) => [step, values[t]]),
        thin: true,
        dots: few ? 1.6 : 0,
        band: i ? [] : (run.intervals[name] ?? []),
      },
      {ink, name: words(name), points: steps.map((step, t) => [step, running(values, t)]), dashed: i > 0},
    ];
  });
  const named = series.filter((each) => each.name);
  return figure(title, linePlot({label: title, series, xName: "step"}), note, named.length > 1 ? legend(named) : null);
}

function running(values, t) {
  const recent = values.slice(Math.max(0, t - SMOOTH + 1), t + 1).filter(known);
  return known(values[t]) ? mean(recent) : null;
}

function costs(run) {
  const seconds = PHASES.map((phase) => [phase, (run.metrics[`seconds_${phase}`] ?? []).filter(known)]).filter(
    ([, values]) => values.length,
  );
  const total = seconds.reduce((all, [, values]) => all + mean(values), 0);
  const rows = seconds.map(([phase, values]) => ({
    label: phase,
    value: mean(values),
    text: `${number(mean(values))} s  ${percent(mean(values) / total)}`,
  }));
  const roles = Object.entries(run.calls);
  const heads = ["role", "calls", "attempts", "failed", "tokens read", "tokens written", "cost"];
  const cells = ([role, c]) => [
    role,
    ...["calls", "attempts", "failed", "prompt_tokens", "completion_tokens"].map((name) => number_(c[name])),
    number(c.cost, 4),
  ];
  return el(
    "section",
    {},
    el("h2", {}, "Time and calls"),
    el(
      "div.grid.two",
      {},
      rows.length
        ? figure(
            "Seconds per step by phase",
            barPlot({label: "Seconds per step by phase", rows}),
            `${number(total)} s in all`,
          )
        : null,
      roles.length
        ? el("div.panel", {}, table(heads, roles.map(cells)))
        : el("p.note.panel", {}, "No language model was asked: users and judge are scripted or logged."),
    ),
  );
}

function about(run) {
  const {versions, prompts} = run.summary;
  return el(
    "section",
    {},
    el("h2", {}, "What it is made of"),
    el("details", {}, el("summary", {}, "Config"), el("pre", {}, run.config)),
    versions &&
      el(
        "details",
        {},
        el("summary", {}, "Versions and prompts"),
        el(
          "pre",
          {},
          Object.entries({...versions, ...prompts}).map(([name, value]) => `${name.padEnd(28)} ${value}\n`),
        ),
      ),
  );
}
