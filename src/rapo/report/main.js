// Views by address (#dialogues/12), keys, theme.

const VIEWS = [
  ["overview", "Overview"],
  ["dialogues", "Dialogues"],
  ["groups", "Groups"],
  ["compare", "Compare"],
];
const KEYS = [
  ["1 – 4", "views"],
  ["j  k  or  ← →", "next, previous"],
  ["↑ ↓  in a list", "move"],
  ["/", "search"],
  ["t", "light or dark"],
  ["?", "these keys"],
  ["Esc", "close, leave, back to the list"],
];
const views = {};
let report = null;

function go(name, ...places) {
  location.hash = [name, ...places].filter(known).join("/");
}

function address() {
  const [name, ...places] = location.hash.slice(1).split("/");
  const numbers = places.map((each) => (/^\d+$/.test(each) ? Number(each) : null));
  return {
    name: VIEWS.some(([key]) => key === name) ? name : "overview",
    place: numbers[0] ?? null,
    beside: numbers[1] ?? null,
  };
}

async function route() {
  const {name, place, beside} = address();
  document.querySelectorAll("#tabs a").forEach((tab) => tab.toggleAttribute("aria-current", tab.hash === `#${name}`));
  const main = byId("view");
  main.className = name;
  byId("tip").hidden = true;
  if (name === "overview") fill(main, overviewView(report));
  else if (name === "compare") fill(main, compareView(report));
  else await openBrowser(main, name, place, beside);
}

async function openBrowser(main, name, place, beside) {
  const records = report.texts[name];
  if (!records.count) {
    main.replaceChildren(el("p.empty", {}, `No ${name} are recorded yet.`));
    return;
  }
  views[name] ??= name === "dialogues" ? dialoguesView(report) : groupsView(report);
  const view = views[name],
    valid = known(place) && place < records.count ? place : null;
  if (main.firstChild !== view.node) {
    main.replaceChildren(view.node);
    view.refresh();
  }
  await view.open(valid);
  if (known(valid) && known(beside) && beside < records.count && name === "dialogues")
    view.fill(await dialogueDetail(report, valid, beside));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input, select, textarea"),
    {name} = address(),
    view = views[name];
  if (event.key === "Escape") {
    escape(typing, view, name);
    return;
  }
  if (typing || (byId("help").open && event.key !== "?")) return;
  const act =
    {
      j: () => view?.list.move(1),
      ArrowRight: () => view?.list.move(1),
      k: () => view?.list.move(-1),
      ArrowLeft: () => view?.list.move(-1),
      "/": () => view?.search.focus(),
      t: flipTheme,
      "?": flipHelp,
    }[event.key] ?? (/^[1-4]$/.test(event.key) ? () => go(VIEWS[event.key - 1][0]) : null);
  if (act) {
    event.preventDefault();
    act();
  }
}

function escape(typing, view, name) {
  if (byId("help").open) byId("help").close();
  else if (typing) typing.blur();
  else if (view && innerWidth <= 860) go(name);
}

function flipHelp() {
  const help = byId("help");
  if (help.open) {
    help.close();
    return;
  }
  help.replaceChildren(
    el("h2", {}, "Keys"),
    el(
      "dl",
      {},
      KEYS.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]),
    ),
    el("button", {type: "button", on: {click: () => help.close()}}, "Close"),
  );
  help.showModal();
}

function flipTheme() {
  const root = document.documentElement,
    dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

async function start() {
  byId("tabs").append(...VIEWS.map(([name, text], i) => el("a", {href: `#${name}`, title: `key ${i + 1}`}, text)));
  byId("theme").addEventListener("click", flipTheme);
  byId("help-button").addEventListener("click", flipHelp);
  addEventListener("hashchange", route);
  addEventListener("keydown", onKey);
  let width = innerWidth,
    timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (innerWidth !== width) {
        width = innerWidth;
        route();
      }
    }, 200);
  });
  installTips();
  report = new Report(await unpack("index"));
  await route();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) =>
  byId("view").replaceChildren(el("p.empty", {}, `The report cannot be shown: ${error.message}`)),
);
