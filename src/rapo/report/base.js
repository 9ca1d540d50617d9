"use strict";
// Elements, texts and numbers. Whatever a model wrote comes into the page through `el` or `svg`, as a text node or a
// plain attribute, with its control characters made visible.

const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

function visible(text) {
  return String(text).replace(UNSEEN, (c) =>
    c === "\n" || c === "\t" ? c : `⟨${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

function build(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "vars") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else node.setAttribute(name, visible(value === true ? "" : value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return node;
}

// el("p.note", {title: "..."}, "text", child): the class may stand behind the tag.
function el(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  return build(node, props, children);
}

function svg(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  return build(node, props, children);
}

// Replaces what a node holds; null and false are nothing, as in `el`.
function fill(node, ...children) {
  node.replaceChildren();
  return build(node, {}, children);
}

const byId = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function number(value, digits = 2) {
  if (!known(value)) return "–";
  const text = Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(digits);
  return text.replace("-", "−");
}

// For values of any size: 0.00012 is 1.2e−4.
const precise = (value) =>
  value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(1).replaceAll("-", "−") : number(value);

const signed = (value, digits = 2) => (known(value) ? (value > 0 ? "+" : "") + number(value, digits) : "–");
// A score of an evaluation: only a change has a sign.
const scored = (name, value) => (name === "change" ? signed(value) : number(value));
const percent = (value) => (known(value) ? `${Math.round(100 * value)} %` : "–");
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 90) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${number(seconds / 3600, 1)} h`;
}

const words = (name) => name.replaceAll("_", " ");
// Facts in a line; what is missing is left out.
const line = (...facts) => facts.filter(Boolean).join(" · ");
const letter = (place) => (place < 26 ? String.fromCharCode(65 + place) : `#${place + 1}`);

// A change for the better or the worse: a sign and a triangle besides the colour.
function chip(change, title = "change of state") {
  const way = !known(change) || change === 0 ? "same" : change > 0 ? "up" : "down";
  const sign = {up: "▲", down: "▼", same: "●"}[way];
  return el(`span.chip.${way}`, {"data-tip": `${title} ${signed(change)}`}, `${sign} ${signed(change, 1)}`);
}

function choice(label, options, value, onChange) {
  const select = el(
    "select",
    {"aria-label": label, on: {change: () => onChange(select.value)}},
    options.map(([key, text]) => el("option", {value: key, selected: String(key) === String(value)}, text)),
  );
  return el("label.choice", {}, el("span", {}, label), select);
}

function table(head, rows, numeric = true) {
  return el(
    "div.scroll-x",
    {},
    el(
      numeric ? "table.numbers" : "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head.map((cell) => el("th", {scope: "col"}, cell)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((cell, i) => (i ? el("td", {}, cell) : el("th", {scope: "row"}, cell))),
          ),
        ),
      ),
    ),
  );
}

// Values on hover, focus and tap, for anything with data-tip.
function installTips() {
  const tip = byId("tip");
  const show = (event) => {
    const target = event.target.closest?.("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.getAttribute("data-tip");
    const box = target.getBoundingClientRect();
    const left = Math.min(
      Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2),
      innerWidth - tip.offsetWidth - 8,
    );
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
  };
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, show);
  document.addEventListener(
    "scroll",
    () => {
      tip.hidden = true;
    },
    true,
  );
}
