// Plots are inline SVG. `figure` puts a title above one and buttons below it that save it as SVG or PNG.

const INKS = ["blue", "orange", "green", "purple", "sky", "red"];
const STYLES = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linejoin",
  "opacity",
  "font-family",
  "font-size",
  "font-weight",
  "text-anchor",
];

function figure(title, drawing, note = "", legend = null) {
  const save = (kind, act) =>
    el(
      "button.save",
      {type: "button", "aria-label": `Save ${title} as ${kind}`, on: {click: () => act(drawing, title)}},
      kind,
    );
  return el(
    "figure",
    {},
    el("figcaption", {}, el("b", {}, title), note && el("span.note", {}, note)),
    legend,
    drawing,
    el("div.saves", {}, save("SVG", saveSvg), save("PNG", savePng)),
  );
}

function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const off = (each) => Math.abs(Math.log((each * unit) / rough));
  const step = unit * [1, 2, 5, 10].reduce((best, each) => (off(each) < off(best) ? each : best));
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return {values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))};
}

function span(values, pad = 0.06) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values)
    if (known(value)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  if (low > high) return [0, 1];
  if (low === high) return [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
  return [low - pad * (high - low), high + pad * (high - low)];
}

const scale = (from, to) => (value) => to[0] + ((value - from[0]) / (from[1] - from[0])) * (to[1] - to[0]);

// series: [{name, ink, points: [[x, y or null]], band: [[x, low, high]], dots, thin, marks: [[x, y, text]]}].
function linePlot({label, series, xName = "", yRange = null, width = 340, height = 190, wholeX = true}) {
  const box = {left: 44, right: 12, top: 10, bottom: xName ? 34 : 22};
  const points = series.flatMap((each) => each.points);
  const bands = series.flatMap((each) => (each.band ?? []).flatMap(([, low, high]) => [low, high]));
  const xs = span(
    points.map(([x]) => x),
    0.02,
  );
  const ys = yRange ?? span([...points.map(([, y]) => y), ...bands]);
  const x = scale(xs, [box.left, width - box.right]),
    y = scale(ys, [height - box.bottom, box.top]);
  const drawing = svg("svg.plot", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  const across = ticks(ys[0], ys[1], 4),
    along = ticks(xs[0], xs[1], Math.min(8, width / 60));
  for (const value of across.values) {
    drawing.append(
      svg(value === 0 ? "line.axis" : "line.grid", {x1: box.left, x2: width - box.right, y1: y(value), y2: y(value)}),
      svg("text.tick", {x: box.left - 6, y: y(value) + 3.5, "text-anchor": "end"}, number(value, across.digits)),
    );
  }
  for (const value of along.values.filter((each) => !wholeX || Number.isInteger(each))) {
    drawing.append(
      svg(
        "text.tick",
        {x: x(value), y: height - box.bottom + 15, "text-anchor": "middle"},
        number(value, wholeX ? 0 : along.digits),
      ),
    );
  }
  if (xName)
    drawing.append(
      svg("text.tick", {x: (box.left + width - box.right) / 2, y: height - 4, "text-anchor": "middle"}, xName),
    );
  for (const each of series) drawSeries(drawing, each, x, y);
  follow(drawing, series, x, {width, height, box});
  return drawing;
}

function drawSeries(drawing, {ink, points, band = [], dots, thin, dashed, marks = []}, x, y) {
  if (band.length) {
    const upper = band.map(([at, , high]) => `${x(at)},${y(high)}`),
      lower = band.map(([at, low]) => `${x(at)},${y(low)}`);
    drawing.append(svg(`polygon.band.${ink}`, {points: [...upper, ...lower.reverse()].join(" ")}));
  }
  let path = "",
    pen = "M";
  for (const [at, value] of points) {
    if (!known(value)) {
      pen = "M";
      continue;
    }
    path += `${pen}${x(at).toFixed(1)},${y(value).toFixed(1)}`;
    pen = "L";
  }
  drawing.append(
    svg(`path.line.${ink}${thin ? ".thin" : ""}`, {d: path || "M0,0", "stroke-dasharray": dashed ? "5 4" : null}),
  );
  if (dots)
    for (const [at, value] of points)
      if (known(value)) drawing.append(svg(`circle.dot.${ink}`, {cx: x(at), cy: y(value), r: dots}));
  for (const [at, value, text] of marks) {
    const [px, py] = [x(at), y(value)];
    drawing.append(
      svg("path.pivot", {d: `M${px},${py - 8}L${px + 8},${py}L${px},${py + 8}L${px - 8},${py}Z`, "data-tip": text}),
    );
  }
}

// A hair line that tells the values under the pointer.
function follow(drawing, series, x, {width, height, box}) {
  const at = [...new Set(series.flatMap((each) => each.points.map(([value]) => value)))];
  const hair = svg("line.hair", {y1: box.top, y2: height - box.bottom, visibility: "hidden"});
  const pad = svg("rect.pad", {
    x: box.left,
    y: box.top,
    width: width - box.left - box.right,
    height: height - box.top - box.bottom,
    fill: "transparent",
  });
  pad.addEventListener("pointermove", (event) => {
    const frame = drawing.getBoundingClientRect(),
      px = ((event.clientX - frame.left) * width) / frame.width;
    const nearest = at.reduce(
      (best, value) => (Math.abs(x(value) - px) < Math.abs(x(best) - px) ? value : best),
      at[0],
    );
    const told = series
      .filter((each) => each.name)
      .map((each) => {
        const found = each.points.find(([value]) => value === nearest)?.[1];
        return known(found) ? `${each.name} ${precise(found)}` : null;
      })
      .filter(Boolean);
    hair.setAttribute("x1", x(nearest));
    hair.setAttribute("x2", x(nearest));
    hair.setAttribute("visibility", "visible");
    const tip = byId("tip");
    tip.hidden = false;
    tip.textContent = visible(`${number(nearest, 0)}: ${told.join("   ")}`);
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY - tip.offsetHeight - 10}px`;
  });
  pad.addEventListener("pointerleave", () => {
    hair.setAttribute("visibility", "hidden");
    byId("tip").hidden = true;
  });
  drawing.prepend(pad);
  drawing.append(hair);
}

// rows: [{label, mean, low, high, ink, strong, gap}]: a dot and its interval per line.
function forestPlot({label, rows, width, xName = "", tell = signed}) {
  const longest = Math.max(...rows.map((row) => row.label.length));
  const left = Math.min(longest * 7 + 22, width * 0.34),
    right = width < 460 ? 62 : 178,
    line = 26;
  const height = rows.reduce((sum, row) => sum + line + (row.gap ?? 0), 0) + 40;
  const range = span([0, ...rows.flatMap((row) => [row.mean, row.low, row.high])]),
    x = scale(range, [left, width - right]);
  const drawing = svg("svg.plot", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  const along = ticks(range[0], range[1], (width - left - right) / 45);
  for (const value of along.values) {
    drawing.append(
      svg(Math.abs(value) < 1e-9 ? "line.axis" : "line.grid", {x1: x(value), x2: x(value), y1: 4, y2: height - 34}),
      svg("text.tick", {x: x(value), y: height - 19, "text-anchor": "middle"}, number(value, along.digits)),
    );
  }
  if (xName)
    drawing.append(svg("text.tick", {x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle"}, xName));
  let y = 4 + line / 2;
  for (const row of rows) {
    y += row.gap ?? 0;
    const weight = row.strong ? ".strong" : "";
    drawing.append(
      svg(`text.label${weight}`, {x: left - 14, y: y + 4, "text-anchor": "end"}, clip(row.label, left / 6.6)),
    );
    if (known(row.mean)) {
      const told = `${row.label}: ${tell(row.mean)} [${tell(row.low)}, ${tell(row.high)}]`;
      drawing.append(
        svg(`line.whisker.${row.ink}${weight}`, {x1: x(row.low), x2: x(row.high), y1: y, y2: y}),
        svg(`circle.dot.${row.ink}${weight}`, {cx: x(row.mean), cy: y, r: row.strong ? 5.5 : 4, "data-tip": told}),
        svg(
          `text.value${weight}`,
          {x: width - right + 14, y: y + 4},
          width < 460 ? tell(row.mean) : told.slice(row.label.length + 2),
        ),
      );
    }
    y += line;
  }
  return drawing;
}

const clip = (text, length) => (text.length > length ? `${text.slice(0, Math.max(3, length - 1))}…` : text);

// rows: [{label, value, text}].
function barPlot({label, rows, width = 480, ink = "blue"}) {
  const left = 96,
    right = 110,
    line = 26,
    most = Math.max(...rows.map((row) => row.value), 1e-12);
  const drawing = svg("svg.plot", {
    viewBox: `0 0 ${width} ${rows.length * line + 6}`,
    role: "img",
    "aria-label": label,
  });
  rows.forEach((row, i) => {
    const y = i * line + 4,
      length = Math.max(1, ((width - left - right) * row.value) / most);
    drawing.append(
      svg("text.label", {x: left - 10, y: y + 14, "text-anchor": "end"}, row.label),
      svg(`rect.bar.${ink}`, {x: left, y: y + 2, width: length, height: 16, rx: 2}),
      svg("text.value", {x: left + length + 8, y: y + 14}, row.text),
    );
  });
  return drawing;
}

function spark(states, width = 64, height = 22, range = null) {
  const ys = range ?? span(states, 0.12),
    x = scale([0, Math.max(1, states.length - 1)], [3, width - 3]),
    y = scale(ys, [height - 3, 3]);
  const ink = (changeOf(states) ?? 0) < 0 ? "red" : "blue";
  return svg(
    "svg.spark",
    {viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true"},
    svg(`polyline.line.${ink}`, {
      points: states.map((state, i) => `${x(i).toFixed(1)},${y(state).toFixed(1)}`).join(" "),
    }),
    svg(`circle.dot.${ink}`, {cx: x(states.length - 1), cy: y(states.at(-1)), r: 2.5}),
  );
}

function legend(series) {
  return el(
    "div.legend",
    {},
    series.map((each) => el("span", {}, el(`i.key.${each.ink}${each.dashed ? ".dashed" : ""}`), each.name)),
  );
}

// A saved plot stands alone: what the style sheet says of it is written into it.
function standalone(drawing) {
  const copy = drawing.cloneNode(true),
    from = [drawing, ...drawing.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(from[i]);
    for (const name of STYLES) node.setAttribute(name, style.getPropertyValue(name));
    node.removeAttribute("data-tip");
  });
  const [, , width, height] = drawing.getAttribute("viewBox").split(" ");
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.prepend(svg("rect", {width, height, fill: getComputedStyle(document.body).backgroundColor}));
  return {text: new XMLSerializer().serializeToString(copy), width: Number(width), height: Number(height)};
}

function download(blob, name) {
  const link = el("a", {download: name, href: URL.createObjectURL(blob)});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (title, end) =>
  `${title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")}.${end}`;

function saveSvg(drawing, title) {
  download(new Blob([standalone(drawing).text], {type: "image/svg+xml"}), fileName(title, "svg"));
}

async function savePng(drawing, title) {
  const {text, width, height} = standalone(drawing),
    times = 3;
  const image = new Image(),
    url = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
  image.src = url;
  await image.decode();
  const canvas = el("canvas", {width: width * times, height: height * times});
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(url);
  canvas.toBlob((blob) => download(blob, fileName(title, "png")));
}
