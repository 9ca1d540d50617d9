// The words of a reply, shaded by what they taught: how far teacher and student were apart, or how each was pushed.
// Shade and underline say the same, and the value stands in a tip.

function shadedWords(pieces, values, most, describe) {
  return pieces.map((piece, t) => {
    const value = values?.[t];
    if (!known(value)) return el("span.word", {}, piece);
    // A few words carry most of it: by the square root the others can be seen, too.
    const share = Math.sqrt(Math.min(1, Math.abs(value) / (most || 1)));
    return el(
      `span.word.${value < 0 ? "down" : "up"}`,
      {"data-tip": describe(t), vars: {"--share": `${Math.round(100 * share)}%`}},
      piece,
    );
  });
}

// What a policy gradient adds to the logit of a sampled token, up to the step size: A (1 - p).
const pushes = (advantage, logps) => logps.map((logp) => advantage * (1 - Math.exp(logp)));

// record: a line of groups.jsonl. What is known of one reply: {pieces, divergences, whole, pushes, advantage}.
function lessonOf(record, kind, place) {
  const reply = record.group[kind][place].completion;
  const pieces = record.pieces?.[kind]?.[place] ?? null;
  const own = record.divergences.length === record.group.candidates.length && !record.group.corrections.length;
  const taught = kind === (own ? "candidates" : "corrections");
  return {
    text: reply.text,
    pieces,
    divergences: taught ? (record.token_divergences?.[place] ?? null) : null,
    whole: taught ? (record.divergences[place] ?? null) : null,
    advantage: kind === "candidates" ? record.advantages[place] : null,
    pushes: kind === "candidates" && reply.logps ? pushes(record.advantages[place], reply.logps) : null,
    logps: reply.logps,
  };
}

// `by` is "divergence" or "push"; without values per token the whole reply takes the shade.
function lessonText(lesson, by, most) {
  const values = by === "divergence" ? lesson.divergences : by === "push" ? lesson.pushes : null;
  const whole = by === "divergence" ? lesson.whole : by === "push" ? lesson.advantage : null;
  if (lesson.pieces && values) {
    return el(
      "p.said",
      {},
      shadedWords(lesson.pieces, values, most, (t) => tokenTip(lesson, t)),
    );
  }
  if (!known(whole) || by === "none") return el("p.said", {}, lesson.text);
  const told =
    by === "divergence" ? `mean divergence ${number(whole, 3)} nats per token` : `advantage ${signed(whole)}`;
  return el(
    "p.said",
    {},
    shadedWords([lesson.text], [whole], most, () => told),
  );
}

function tokenTip(lesson, t) {
  const told = [];
  if (known(lesson.divergences?.[t])) told.push(`divergence ${number(lesson.divergences[t], 3)} nats`);
  if (known(lesson.pushes?.[t])) told.push(`advantage ${signed(lesson.advantage)}, push ${signed(lesson.pushes[t])}`);
  if (known(lesson.logps?.[t])) told.push(`probability ${number(Math.exp(lesson.logps[t]), 2)}`);
  return told.join(" · ");
}

// The largest value of each kind in a group: the darkest shade.
function darkest(lessons) {
  const most = (values) => values.reduce((high, value) => Math.max(high, Math.abs(value ?? 0)), 0);
  return {
    divergence: most(lessons.flatMap((each) => (each.pieces && each.divergences ? each.divergences : [each.whole]))),
    push: most(lessons.flatMap((each) => (each.pieces && each.pushes ? each.pushes : [each.advantage]))),
  };
}
