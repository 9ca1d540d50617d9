// The page shows what the server knows of the talk and asks it for everything; texts are never read as HTML.
"use strict";

const $ = (id) => document.getElementById(id);

function element(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = visible(text);
  return made;
}

// Direction marks and other controls become visible, as in the terminal.
const visible = (text) => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => (c === "\n" || c === "\t" ? c : "\uFFFD"));

async function ask(name, given = {}) {
  document.body.setAttribute("aria-busy", "true");
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  try {
    const answer = await fetch(name, { method: "POST", body: JSON.stringify(given) });
    show(await answer.json());
    return true;
  } catch {
    $("problem").textContent = "The program that serves this page has ended. What was said is on disk.";
    return false;
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

function said(role, text, more) {
  const bubble = element("div", `said ${role}`);
  bubble.append(element("span", "who", { user: "user", assistant: "policy", system: "brief" }[role]));
  bubble.append(document.createTextNode(visible(text)));
  if (more) bubble.append(element("span", "more", more));
  return bubble;
}

function rated(reply, place, rating) {
  const bubble = said("assistant", reply);
  const row = element("div", "rating", "how was it?");
  for (let value = 1; value <= 5; value++) {
    const button = element("button", "", value);
    button.type = "button";
    button.setAttribute("aria-pressed", String(rating === value));
    button.setAttribute("aria-label", `rate ${value} of 5`);
    button.addEventListener("click", () => ask("rate", { rating: value, reply: place }));
    row.append(button);
  }
  bubble.append(row);
  return bubble;
}

function show(talk) {
  $("model").textContent = visible(talk.model);
  $("notice").textContent = talk.notice;
  $("problem").textContent = visible(talk.problem);
  $("file").textContent = talk.file ? `kept in ${visible(talk.file)}` : "";
  const bubbles = [];
  if (talk.situation) bubbles.push(said("system", talk.situation));
  for (const message of talk.opening) bubbles.push(said(message.role, message.content));
  talk.turns.forEach((turn, place) => {
    bubbles.push(rated(turn.reply, place, turn.rating));
    const state = turn.state === null ? "" : `${talk.scale.name} ${turn.state.toFixed(1)}`;
    bubbles.push(said("user", turn.text, [state, turn.thought].filter(Boolean).join(" · ")));
  });
  if (talk.reply !== null) bubbles.push(rated(talk.reply, talk.turns.length, talk.rating));
  if (talk.done) bubbles.push(said("system", "The user has ended the talk."));
  $("talk").replaceChildren(...bubbles);
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  $("watch").hidden = !talk.can_watch;
  $("undo").disabled = talk.reply === null;
  $("text").hidden = talk.watched;
  $("send").textContent = talk.watched ? "Next turn" : "Send";
  $("send").disabled = talk.done;
  (talk.watched ? $("send") : $("text")).focus();
  window.scrollTo(0, document.body.scrollHeight);
}

const watched = () => $("text").hidden;
$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (watched()) return ask("step");
  const text = $("text").value;
  if (text.trim() && (await ask("say", { text })) && !$("problem").textContent) $("text").value = "";
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
for (const name of ["new", "watch", "undo"]) $(name).addEventListener("click", () => ask(name));
ask("state");
