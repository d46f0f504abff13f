// Shows what /api/events tells.  Whatever came from a server is put in as text, never as HTML.

const MOST_SHOWN = 200;
const HISTORY = 60;

const at = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// How numbers are said.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const count = (value) => whole.format(value);
const rate = (value) => (value < 100 ? short.format(value) : whole.format(value));
const sum = (counts) => Object.values(counts).reduce((one, other) => one + other, 0);

function seconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 1 ? `${short.format(value * 1000)} ms` : `${short.format(value)} s`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${short.format(value)} ${units[unit]}`;
}

function age(value) {
  if (value === null) return "";
  if (value < 120) return `${count(value)} s`;
  if (value < 7200) return `${count(value / 60)} min`;
  return value < 172800 ? `${count(value / 3600)} h` : `${count(value / 86400)} d`;
}

const shade = (slot) => (slot < 0 ? "#808080" : `hsl(${(slot * 137.5 + 215) % 360} 60% 52%)`);

// Totals, with the last minute of each.

const TILES = [
  ["Requests/s", (t) => rate(t.requests_per_second), (t) => t.requests_per_second],
  ["p99", (t) => seconds(t.p99_seconds), (t) => t.p99_seconds ?? 0],
  ["p50", (t) => seconds(t.p50_seconds), (t) => t.p50_seconds ?? 0],
  ["In flight", (t) => count(t.in_flight), (t) => t.in_flight],
  ["Connections", (t) => count(t.connections), (t) => t.connections],
  ["Queue (at most)", (t) => `${count(t.queue)} (${count(t.queue_most)})`, (t) => t.queue],
  ["Loop lag", (t) => seconds(t.lag_seconds), (t) => t.lag_seconds],
  ["CPUs", (t) => short.format(t.cpu_share), (t) => t.cpu_share],
  ["Memory", (t) => bytes(t.memory_bytes), (t) => t.memory_bytes],
  ["Sessions", (t) => count(t.sessions), (t) => t.sessions],
  ["Restarts", (t) => count(sum(t.restarts)), (t) => sum(t.restarts)],
].map(([name, text, value]) => {
  const number = make("b", {}, "–");
  const path = draw("path");
  const line = draw("svg", { viewBox: `0 0 ${HISTORY - 1} 20`, preserveAspectRatio: "none", "aria-hidden": "true" });
  line.append(path);
  at("totals").append(make("div", { class: "tile" }, make("span", {}, name), number, line));
  return { text, value, number, path, past: [] };
});

function showTotals(total) {
  for (const tile of TILES) {
    tile.number.textContent = tile.text(total);
    tile.past.push(tile.value(total));
    if (tile.past.length > HISTORY) tile.past.shift();
    const most = Math.max(...tile.past, 1e-9);
    const first = HISTORY - tile.past.length;
    tile.path.setAttribute(
      "d",
      tile.past.map((value, i) => `${i ? "L" : "M"}${first + i} ${19 - (18 * value) / most}`).join(""),
    );
  }
}

// Slots.  Rows stay, so that who has the focus keeps it.

const rows = new Map();

function rowOf(slot) {
  let row = rows.get(slot);
  if (!row) {
    const cells = Array.from({ length: 15 }, () => make("td"));
    const button = make("button", { type: "button" });
    button.addEventListener("click", () => askToDrain(slot, button.dataset.drained === "true"));
    cells[14].append(button);
    const mark = make("span", { class: "dot" });
    mark.style.background = shade(slot);
    cells[0].append(mark, String(slot));
    row = { element: make("tr", {}, ...cells), cells, button };
    rows.set(slot, row);
    at("slots").tBodies[0].append(row.element);
  }
  return row;
}

const MOODS = { serving: "good", failed: "bad", draining: "warn", restarting: "warn", starting: "warn", stopping: "warn" };

function showSlot(slot, most, drained) {
  const { cells, button } = rowOf(slot.index);
  const load = slot.load;
  const [first, ...others] = slot.workers;
  cells[1].className = `state ${MOODS[slot.state] ?? ""}`;
  cells[1].textContent = slot.state;
  cells[2].replaceChildren(first ? `${first.pid} · ${age(first.age_seconds)}` : "–");
  for (const other of others) {
    cells[2].append(make("span", { class: "leaving" }, `${other.pid} · ${other.part}`));
  }
  const meter = make("meter", { min: 0, max: most || 1, value: load.requests_per_second, "aria-hidden": "true" });
  cells[3].replaceChildren(rate(load.requests_per_second), meter);
  const texts = [
    seconds(load.p50_seconds), seconds(load.p99_seconds), count(load.in_flight), count(load.connections),
    seconds(load.lag_seconds), `${count(load.cpu_share * 100)} %`, bytes(load.memory_bytes), count(load.sessions),
    `${count(load.queue)} (${count(load.queue_most)})`, count(sum(load.restarts)),
  ];
  texts.forEach((text, i) => { cells[4 + i].textContent = text; });
  cells[13].title = Object.entries(load.restarts).map(([cause, number]) => `${cause}: ${number}`).join(", ");
  button.dataset.drained = String(drained);
  button.textContent = drained ? "Undrain…" : "Drain…";
  button.setAttribute("aria-label", `${drained ? "Undrain" : "Drain"} slot ${slot.index}`);
}

function showSlots(status) {
  const most = Math.max(...status.slots.map((slot) => slot.load.requests_per_second), 0);
  const here = new Set();
  for (const slot of status.slots) {
    if (here.has(slot.index)) continue;  // one that leaves while another has its number
    here.add(slot.index);
    showSlot(slot, most, status.drained.includes(slot.index));
  }
  for (const [index, row] of rows) {
    if (!here.has(index)) { row.element.remove(); rows.delete(index); }
  }
}

// How keys and requests spread.

let spread = [];

function showSpread() {
  const square = at("spread");
  if (square.childElementCount !== spread.length) {
    square.replaceChildren(...spread.map((_, i) =>
      draw("rect", { x: i % 40, y: Math.floor(i / 40), width: 0.9, height: 0.9, rx: 0.15 })));
  }
  spread.forEach((slot, i) => square.children[i].setAttribute("fill", shade(slot)));
}

function showShares(status) {
  const homes = new Map();
  for (const slot of spread) homes.set(slot, (homes.get(slot) ?? 0) + 1);
  const total = status.total.requests_per_second;
  at("spread-text").textContent = status.placement === "least"
    ? `The last ${spread.length} clients that are remembered, by slot (${status.affinity.join(", ")}).`
    : `${spread.length} made-up clients, each in the colour of its slot (${status.affinity.join(", ")}; ${status.placement}).`;
  at("shares").replaceChildren(...status.slots.map((slot) => {
    const part = total ? slot.load.requests_per_second / total : 0;
    const keys = spread.length ? (homes.get(slot.index) ?? 0) / spread.length : 0;
    const mark = make("span", { class: "dot" });
    mark.style.background = shade(slot.index);
    return make("div", { class: "share" },
      make("span", {}, mark, `slot ${slot.index}`),
      make("progress", { max: 1, value: part, "aria-label": `share of requests of slot ${slot.index}` }),
      make("span", {}, `${count(part * 100)} % (keys: ${count(keys * 100)} %)`));
  }));
}

function showUnusual(status) {
  const { total } = status;
  const pairs = [
    ["Skew of requests", status.skew === null ? "–" : `${short.format(status.skew)} ×`],
    ["5xx responses", count(total.requests["5xx"])],
    ["Aborted requests", count(total.requests.aborted)],
    ["Replayed connections", count(total.replayed)],
    ["No descriptor free", count(total.nacks)],
    ["Tokens refused", count(total.tokens_refused)],
    ...Object.entries(status.refused).map(([why, number]) => [`Refused: ${why}`, count(number)]),
    ...Object.entries(status.peeked).map(([what, number]) => [`First bytes: ${what}`, count(number)]),
    ...Object.entries(total.restarts).map(([cause, number]) => [`Restarts: ${cause}`, count(number)]),
  ];
  at("unusual").replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function showStatus(status) {
  const ready = at("ready");
  ready.textContent = status.ready ? "ready" : "not ready";
  ready.className = `badge ${status.ready ? "good" : "bad"}`;
  ready.title = status.checks.map((check) => `${check.name}: ${check.says}`).join("\n");
  at("what").textContent = status.application;
  document.title = `${status.ready ? "" : "(!) "}stickyd: ${status.application}`;
  at("resize").dataset.slots = status.placed;
  showTotals(status.total);
  showSlots(status);
  showShares(status);
  showUnusual(status);
}

function showEvent(event) {
  const moment = new Date(event.time * 1000);
  const entry = make("li", { class: event.level },
    make("time", { datetime: moment.toISOString(), title: moment.toString() }, moment.toLocaleTimeString()),
    make("code", {}, event.event), make("span", {}, event.text));
  const log = at("log");
  log.prepend(entry);
  while (log.childElementCount > MOST_SHOWN) log.lastElementChild.remove();
}

// Asking before anything is changed.

async function post(path, body) {
  const answer = await fetch(`/api/${path}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

let act = null;

function ask(question, consequence, go, change, slots = null) {
  at("question").textContent = question;
  at("consequence").textContent = consequence;
  at("problem").textContent = "";
  at("go").textContent = go;
  at("go").disabled = false;
  at("number-label").hidden = slots === null;
  at("number").value = slots ?? "";
  act = change;
  at("ask").showModal();
}

at("go").addEventListener("click", async (event) => {
  event.preventDefault();
  at("go").disabled = true;
  at("problem").textContent = "";
  try {
    await act();
    at("ask").close();
  } catch (problem) {
    at("problem").textContent = problem.message;
  }
  at("go").disabled = false;
});

function askToDrain(slot, drained) {
  if (drained) {
    ask(`Let clients come back to slot ${slot}?`, "Those that belong there move back, with their sessions.", "Undrain",
      () => post("undrain", { slot }));
  } else {
    ask(`Drain slot ${slot}?`, "Its clients and their sessions go to the other slots; requests under way are finished.",
      "Drain", () => post("drain", { slot }));
  }
}

at("reload").addEventListener("click", () =>
  ask("Reload?", "The configuration is read again, and all workers are replaced one by one.", "Reload", () => post("reload", {})));

at("resize").addEventListener("click", () =>
  ask("Resize?", "Clients whose slot changes move, with their sessions.", "Resize",
    () => post("resize", { slots: Number(at("number").value) }), at("resize").dataset.slots));

// Explaining.

at("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = at("explained");
  try {
    const told = await post("explain", { client: at("client").value });
    const worker = told.worker ? `worker ${told.worker.pid}, ${told.worker.state}` : "no worker";
    const where = told.slot === null ? "No slot" : `Slot ${told.slot}: ${worker}`;
    place.replaceChildren(make("p", {}, make("strong", {}, where)),
      make("ul", {}, ...told.reasons.map((reason) => make("li", {}, reason))));
  } catch (problem) {
    place.replaceChildren(make("p", { role: "alert" }, problem.message));
  }
});

// Listening.

const source = new EventSource("/api/events");
const live = at("live");

source.addEventListener("open", () => { live.textContent = "live"; live.className = "badge good"; });
source.addEventListener("error", () => {
  live.textContent = "reconnecting";
  live.className = "badge warn";
  if (source.readyState === EventSource.CLOSED) closed();
});

// Closed for good: another run of the server has another token, or there are too many pages.
async function closed() {
  setTimeout(() => location.reload(), 5000);
  const asking = new AbortController();
  try {
    const { status } = await fetch("/api/events", { signal: asking.signal });
    if (status === 503) live.textContent = "too many dashboards are open";
    asking.abort();
  } catch {
    // The server is away.
  }
}

source.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
source.addEventListener("spread", (event) => { spread = JSON.parse(event.data); showSpread(); });
source.addEventListener("log", (event) => showEvent(JSON.parse(event.data)));
