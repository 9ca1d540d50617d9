// The data in the page: an index that is read first, and chunks of records that are opened when somebody looks.

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

class Records {
  constructor(kind, starts, count) {
    this.kind = kind;
    this.starts = starts;
    this.count = count;
    this.chunks = starts.map(() => null);
    this.haystacks = null;
  }

  chunk(number) {
    this.chunks[number] ??= unpack(`${this.kind}-${number}`);
    return this.chunks[number];
  }

  async get(place) {
    let number = this.starts.length - 1;
    while (this.starts[number] > place) number -= 1;
    return (await this.chunk(number))[place - this.starts[number]];
  }

  // Lower-case texts of every record; `onProgress` hears of shares between 0 and 1, and the page lives meanwhile.
  async texts(onProgress) {
    if (this.haystacks) return this.haystacks;
    const found = [];
    for (let number = 0; number < this.starts.length; number += 1) {
      for (const record of await this.chunk(number)) found.push(textsIn(record, []).join("\n").toLowerCase());
      onProgress((number + 1) / this.starts.length);
      await new Promise((done) => setTimeout(done));
    }
    this.haystacks = found;
    return found;
  }
}

function textsIn(value, into) {
  if (typeof value === "string") into.push(value);
  else if (Array.isArray(value)) for (const each of value) textsIn(each, into);
  else if (value && typeof value === "object") {
    // The pieces of a reply are its text once more.
    for (const [key, each] of Object.entries(value)) if (key !== "pieces") textsIn(each, into);
  }
  return into;
}

class Report {
  constructor(index) {
    Object.assign(this, index);
    this.texts = {
      dialogues: new Records("dialogues", index.dialogues.starts, index.dialogues.id.length),
      groups: new Records("groups", index.groups.starts, index.groups.id.length),
    };
    this.several = this.runs.length > 1;
  }

  // Who spoke: with two runs, in which.
  speaker(source) {
    const {run, moment, speaker} = this.sources[source];
    const name = moment === "training" ? "training" : speaker;
    return this.several ? `${this.runs[run].name}: ${name}` : name;
  }

  // What an evaluation measured and on whom; with several suites, in which.
  occasion({suite, users}) {
    this.suites ??= new Set(this.results.map((result) => this.sources[result.source].suite));
    return `${this.suites.size > 1 && suite ? `${words(suite)}, ` : ""}${words(users)}`;
  }

  // The talks of other speakers with the user of this one, in the order of the evaluations.
  sameSeeker(place) {
    this.seekers ??= this.groupSeekers();
    return this.seekers.get(this.seekerKey(place)) ?? [];
  }

  seekerKey(place) {
    const {suite, users} = this.sources[this.dialogues.source[place]];
    return JSON.stringify([suite, users, this.dialogues.id[place]]);
  }

  groupSeekers() {
    const found = new Map();
    for (let place = 0; place < this.dialogues.id.length; place += 1) {
      if (this.sources[this.dialogues.source[place]].moment === "training") continue;
      const key = this.seekerKey(place);
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(place);
    }
    return found;
  }
}

const trajectory = (dialogue) => [dialogue.scenario.start, ...dialogue.turns.map((turn) => turn.reaction.state)];
const changeOf = (states) => (states.length > 1 ? states.at(-1) - states[0] : null);
