// Two speakers on the same items: wins, ties, losses, and the difference with its interval.

const RESAMPLES = 2000;

function compareView(report) {
  const speakers = new Map();
  report.results.forEach((result) => {
    const {run, moment, speaker} = report.sources[result.source],
      key = JSON.stringify([run, moment, speaker]);
    if (!speakers.has(key)) speakers.set(key, {name: sourceLabel(report, result.source), results: []});
    speakers.get(key).results.push(result);
  });
  const keys = [...speakers.keys()],
    state = {};
  const policies = (moment, run) =>
    keys.find((key) => {
      const s = report.sources[speakers.get(key).results[0].source];
      return s.kind === "policy" && s.run === run && (!moment || s.moment === moment);
    });
  state.a = report.several ? (policies("after", 0) ?? policies("", 0)) : (policies("after", 0) ?? keys[0]);
  state.b = report.several ? (policies("after", 1) ?? policies("", 1)) : (policies("before", 0) ?? keys[1]);
  if (keys.length < 2 || !state.a || !state.b)
    return [
      el("p.empty", {}, "There is nothing to compare yet: an evaluation of two speakers on the same items is needed."),
    ];
  const node = el("section.run");
  const draw = () => {
    const [a, b] = [speakers.get(state.a), speakers.get(state.b)],
      pairs = pairUp(report, a, b);
    const options = keys.map((key) => [key, speakers.get(key).name]),
      scores = [...new Set(pairs.flatMap((pair) => pair.scores))];
    if (!scores.includes(state.score)) state.score = "";
    fill(
      node,
      el("div.head", {}, el("h1", {}, "Compare")),
      el(
        "div.choices.wide",
        {},
        choice("A", options, state.a, (key) => {
          state.a = key;
          draw();
        }),
        choice("B", options, state.b, (key) => {
          state.b = key;
          draw();
        }),
        scores.length > 1
          ? choice(
              "Score",
              [["", "main score"], ...scores.map((name) => [name, words(name)])],
              state.score,
              (name) => {
                state.score = name;
                draw();
              },
            )
          : null,
      ),
      comparison(pairs, a.name, b.name, state.score),
    );
  };
  draw();
  return [node];
}

function sourceLabel(report, source) {
  const {moment, kind} = report.sources[source];
  return `${report.speaker(source)}${kind === "policy" ? ` (${moment})` : ""}`;
}

function pairUp(report, a, b) {
  return a.results.flatMap((mine) => {
    const source = report.sources[mine.source];
    const theirs = b.results.find((other) => {
      const s = report.sources[other.source];
      return s.suite === source.suite && s.users === source.users;
    });
    return theirs && theirs !== mine
      ? [
          {
            name: `${source.suite}, ${words(source.users)}`,
            main: mine.main,
            mine,
            theirs,
            scores: Object.keys(mine.scores).filter((name) => name in theirs.scores),
          },
        ]
      : [];
  });
}

// The items that both have: {id, difference, x, y, i, j, a, b}; scores, places in the results, places of the dialogues.
function paired({mine, theirs}, score) {
  if (!mine.scores[score] || !theirs.scores[score]) return [];
  const other = new Map(theirs.ids.map((id, i) => [id, i]));
  return mine.ids.flatMap((id, i) => {
    const j = other.get(id),
      x = mine.scores[score][i],
      y = known(j) ? theirs.scores[score][j] : null;
    return known(x) && known(y)
      ? [{id, difference: x - y, x, y, i, j, a: mine.dialogues[i], b: theirs.dialogues[j]}]
      : [];
  });
}

// The percentile bootstrap of a mean, as in evals/stats.py; seeded, so that a page shows the same every time.
function bootstrap(values, seed = 1) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const means = new Float64Array(RESAMPLES)
    .map(() => {
      let sum = 0;
      for (let i = 0; i < values.length; i += 1) sum += values[Math.floor(random() * values.length)];
      return sum / values.length;
    })
    .sort();
  const quantile = (share) => {
    const at = share * (RESAMPLES - 1),
      low = Math.floor(at);
    return means[low] + (at - low) * (means[Math.min(RESAMPLES - 1, low + 1)] - means[low]);
  };
  return {mean: mean(values), low: quantile(0.025), high: quantile(0.975)};
}

// By one score, or with "" by the main score of each suite.
function comparison(pairs, nameA, nameB, chosen) {
  const found = pairs
    .map((pair) => ({...pair, score: chosen || pair.main}))
    .map((pair) => ({...pair, items: paired(pair, pair.score)}))
    .filter((pair) => pair.items.length);
  if (!found.length) return [el("p.empty", {}, "These two share no items.")];
  for (const pair of found) Object.assign(pair, bootstrap(pair.items.map((item) => item.difference)));
  const width = Math.min(900, innerWidth - 56),
    title = "Difference A less B";
  const scores = [...new Set(found.map((pair) => pair.score))];
  const rows = found.map((pair) => ({
    label: pair.name,
    mean: pair.mean,
    low: pair.low,
    high: pair.high,
    ink: "blue",
    strong: true,
  }));
  return [
    el("p.lead", {}, el("b", {}, "A "), nameA, el("span.note", {}, "  against  "), el("b", {}, "B "), nameB),
    figure(
      title,
      forestPlot({
        label: title,
        rows,
        width,
        xName: `${scores.length > 1 ? "main score" : words(scores[0])} of A less that of B, mean and 95 % interval of ${RESAMPLES} resamples`,
      }),
      "right of 0, A is better; an interval over 0 tells neither apart",
    ),
    ...found.map((pair) => pairSection(pair)),
  ];
}

// A value with what was said about it, such as a judge's reason.
const noted = (value, note) => (note ? el("span.noted", {"data-tip": note, tabindex: 0}, value) : value);

function pairSection(pair) {
  const wins = pair.items.filter((item) => item.difference > 0).length,
    losses = pair.items.filter((item) => item.difference < 0).length;
  const counts = [
    ["A wins", wins, "up"],
    ["tie", pair.items.length - wins - losses, "same"],
    ["B wins", losses, "down"],
  ];
  const sorted = [...pair.items].sort((p, q) => q.difference - p.difference),
    title = `Item by item: ${pair.name}`;
  const item = (each) => [
    known(each.a) ? el("a", {href: `#dialogues/${each.a}/${each.b ?? ""}`}, each.id) : each.id,
    noted(scored(pair.score, each.x), pair.mine.notes[each.i]),
    noted(scored(pair.score, each.y), pair.theirs.notes[each.j]),
    chip(each.difference, "A less B:"),
  ];
  const rows = sorted.length > 24 ? [...sorted.slice(0, 12), ...sorted.slice(-12)] : sorted;
  return el(
    "section",
    {},
    el("h2", {}, pair.name),
    el(
      "div.versus",
      {role: "img", "aria-label": counts.map(([name, count]) => `${name} ${count}`).join(", ")},
      counts
        .filter(([, count]) => count)
        .map(([name, count, way]) =>
          el(
            `span.share.${way}`,
            {vars: {"flex-grow": String(count)}, "data-tip": `${name}: ${count} of ${pair.items.length}`},
            `${name} ${count}`,
          ),
        ),
    ),
    figure(title, waterfall(sorted, title), `${plural(sorted.length, "item")}, sorted; every bar is one`),
    el(
      "details",
      {},
      el("summary", {}, sorted.length > 24 ? "The 12 best and the 12 worst for A" : "Items"),
      table(["item", "A", "B", "A less B"], rows.map(item)),
    ),
  );
}

function waterfall(items, label) {
  const width = Math.min(900, innerWidth - 56),
    height = 190,
    box = {left: 44, right: 10, top: 10, bottom: 14};
  const ys = span([0, ...items.map((item) => item.difference)]),
    y = scale(ys, [height - box.bottom, box.top]),
    slot = (width - box.left - box.right) / items.length;
  const drawing = svg("svg.plot", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  const across = ticks(ys[0], ys[1], 4);
  for (const value of across.values)
    drawing.append(
      svg(Math.abs(value) < 1e-9 ? "line.axis" : "line.grid", {
        x1: box.left,
        x2: width - box.right,
        y1: y(value),
        y2: y(value),
      }),
      svg("text.tick", {x: box.left - 6, y: y(value) + 3.5, "text-anchor": "end"}, signed(value, across.digits)),
    );
  items.forEach((item, i) => {
    const [top, bottom] = [Math.min(y(0), y(item.difference)), Math.max(y(0), y(item.difference))];
    drawing.append(
      svg(`rect.bar.${item.difference < 0 ? "red" : "blue"}`, {
        x: box.left + i * slot + slot * 0.1,
        y: top,
        width: slot * 0.8,
        height: Math.max(1, bottom - top),
        "data-tip": `${item.id}: ${signed(item.difference)}`,
      }),
    );
  });
  return drawing;
}
