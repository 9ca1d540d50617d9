// A list of thousands of rows, of which only those in sight exist; and the page of two panes around it.

class VirtualList {
  constructor({label, height, render, onSelect}) {
    Object.assign(this, {height, render, onSelect});
    this.places = [];
    this.chosen = -1;
    this.rows = new Map();
    this.canvas = el("div.canvas");
    this.node = el(
      "div.list",
      {
        role: "listbox",
        tabindex: "0",
        "aria-label": label,
        on: {scroll: () => this.schedule(), keydown: (event) => this.key(event)},
      },
      this.canvas,
    );
    new ResizeObserver(() => this.schedule()).observe(this.node);
  }

  // `places` are numbers of records, in the order in which they are listed.
  show(places, selected) {
    this.places = places;
    this.canvas.style.height = `${places.length * this.height}px`;
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    this.chosen = places.indexOf(selected);
    this.node.scrollTop = 0;
    this.draw();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - 4);
    const last = Math.min(
      this.places.length,
      Math.ceil((this.node.scrollTop + this.node.clientHeight) / this.height) + 4,
    );
    for (const [at, row] of this.rows)
      if (at < first || at >= last) {
        row.remove();
        this.rows.delete(at);
      }
    for (let at = first; at < last; at += 1) if (!this.rows.has(at)) this.rows.set(at, this.row(at));
  }

  row(at) {
    const row = el(
      "div.row",
      {
        role: "option",
        id: `row-${at}`,
        "aria-selected": String(at === this.chosen),
        "aria-posinset": at + 1,
        "aria-setsize": this.places.length,
        on: {click: () => this.choose(at)},
      },
      this.render(this.places[at]),
    );
    row.style.top = `${at * this.height}px`;
    row.style.height = `${this.height}px`;
    this.canvas.append(row);
    return row;
  }

  key(event) {
    const page = Math.floor(this.node.clientHeight / this.height);
    const moves = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity};
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(moves[event.key]);
  }

  move(by) {
    if (this.places.length) this.choose(Math.min(this.places.length - 1, Math.max(0, this.chosen + by)));
  }

  choose(at) {
    this.rows.get(this.chosen)?.setAttribute("aria-selected", "false");
    this.chosen = at;
    this.reveal();
    this.rows.get(at)?.setAttribute("aria-selected", "true");
    this.onSelect(this.places[at]);
  }

  reveal() {
    if (this.chosen < 0) return;
    const top = this.chosen * this.height;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + this.height > this.node.scrollTop + this.node.clientHeight)
      this.node.scrollTop = top + this.height - this.node.clientHeight;
    this.draw();
    this.node.setAttribute("aria-activedescendant", `row-${this.chosen}`);
  }
}

const rowText = (title, note) => el("div.row-text", {}, el("span.row-title", {}, title), el("span.row-note", {}, note));

// A list with search, filters and order on one side, and what was chosen on the other.
// filters: [{label, options: [[key, text, test(place)]]}]; sorts: [[key, text, value(place)]], highest first.
class Browser {
  constructor({name, records, height, render, filters, sorts, detail}) {
    Object.assign(this, {name, records, filters, sorts, detail, query: "", matches: null});
    this.kept = Object.fromEntries(filters.map((filter) => [filter.label, filter.options[0][0]]));
    this.sort = sorts[0][0];
    this.list = new VirtualList({label: name, height, render, onSelect: (place) => go(name, place)});
    this.search = el("input", {
      type: "search",
      placeholder: "Search every text  ( / )",
      "aria-label": "Search",
      spellcheck: "false",
      on: {
        input: () => {
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.find(), 150);
        },
      },
    });
    this.count = el("span.count", {"aria-live": "polite"});
    this.pane = el("article.detail", {tabindex: "-1"});
    this.node = el(
      "div.browser",
      {},
      el(
        "section.side",
        {"aria-label": `List of ${name}`},
        el(
          "div.controls",
          {},
          this.search,
          el(
            "div.choices",
            {},
            filters
              .filter((filter) => filter.options.length > 1)
              .map((filter) =>
                choice(filter.label, filter.options, this.kept[filter.label], (key) => {
                  this.kept[filter.label] = key;
                  this.refresh();
                }),
              ),
            choice("Sort", sorts, this.sort, (key) => {
              this.sort = key;
              this.refresh();
            }),
          ),
          this.count,
        ),
        this.list.node,
      ),
      this.pane,
    );
  }

  async find() {
    this.query = this.search.value.trim().toLowerCase();
    const query = this.query;
    this.matches = null;
    if (query) {
      const texts = await this.records.texts((share) => {
        this.count.textContent = `reading ${percent(share)}`;
      });
      if (query !== this.query) return;
      this.matches = texts.map((text) => text.includes(query));
    }
    this.refresh();
  }

  refresh() {
    const tests = this.filters.map((filter) => filter.options.find(([key]) => key === this.kept[filter.label])[2]);
    const value = this.sorts.find(([key]) => key === this.sort)[2];
    const places = [];
    for (let place = 0; place < this.records.count; place += 1) {
      if ((!this.matches || this.matches[place]) && tests.every((test) => test(place))) places.push(place);
    }
    const keys = new Map(places.map((place) => [place, value(place) ?? -Infinity]));
    places.sort((a, b) => keys.get(b) - keys.get(a) || a - b);
    this.count.textContent = plural(places.length, this.name.replace(/s$/, ""));
    this.list.show(places, this.place);
  }

  async open(place) {
    this.place = place;
    this.node.classList.toggle("opened", known(place));
    if (!this.list.places.length) this.refresh();
    if (!known(place) && innerWidth > 860) place = this.list.places[0];
    if (!known(place)) return;
    if (this.list.places[this.list.chosen] !== place) {
      this.list.show(this.list.places, place);
      this.list.reveal();
    }
    this.place = place;
    const content = await this.detail(place);
    if (this.place !== place) return;
    this.fill(content);
    this.pane.dataset.place = place;
    this.pane.scrollTop = 0;
  }

  fill(content) {
    fill(this.pane, el("button.back.quiet", {type: "button", on: {click: () => go(this.name)}}, "← List"), content);
  }
}
