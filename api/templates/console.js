// The console: polls /console.json for what is new and keeps a row for each machine. What machines and sources say
// reaches the page as text only, never as markup.
"use strict";

const KEPT = 60; // readings of a trace, as many as the process keeps
const SHOWN = 100; // rows until somebody asks for more
const PATIENCE = 10_000; // milliseconds for an answer
const STATUSES = ["STARTED", "COMPLETED", "IDLE", "ERROR"];
const EVENTS = {
  source_down: "is down", source_up: "answers again", rejected: "sent what is no reading", start: "the process started",
  stop: "the process ended", report: "a report was written", gap: "no readings were taken", clock_step: "the clock was changed",
  settings: "the settings changed", repaired: "a file was put right", truncated: "a file was changed by somebody else",
  dropped: "the disk took no readings",
};

const at = id => document.getElementById(id);
const names = new Intl.Collator("en", { numeric: true });
const machines = new Map(); // by key: {key, source, id, latest, trace, and what `judge` says}
let facts = null; // the last answer: interval, parameters, threshold ...
let down = new Map();
let limit = SHOWN;
let opened = null; // the key of the machine in the dialog
let token = "";

// --- Words

function plain(value) {
  const text = String(value).replace(/\p{C}/gu, "\ufffd");
  return text.length > 100 ? text.slice(0, 99) + "…" : text;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size === 0 || (size >= 0.01 && size < 1e7) ? value.toFixed(2) : value.toPrecision(3);
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

function clock(moment) {
  const zone = facts.timezone;
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: zone });
  const time = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeStyle: "medium" }).format(moment);
  return day.format(moment) === day.format(facts.now) ? time : `${day.format(moment)} ${time}`;
}

const several = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// --- What the process says

async function ask(path, options) {
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
  return { ok: answer.ok, status: answer.status, content: await answer.json() };
}

async function refresh() {
  const [{ content }, events] = await Promise.all([ask(`console.json?since=${facts?.mark ?? 0}`), ask("events")]);
  const first = !facts;
  facts = content;
  down = new Map(content.down.map(entry => [entry.source, entry]));
  if (first) nameColumns();
  take(content);
  showFleet();
  showEvents(events.content);
  showTrouble(content.not_ready.length ? `Not ready: ${content.not_ready.join("; ")}.` : "");
  write(at("updated"), `updated ${clock(content.now)}`);
  if (opened) await showMachine();
}

function take({ machines: news, whole }) {
  const gone = whole ? new Set(machines.keys()) : new Set();
  const sources = new Set();
  for (const { latest, trace } of news) {
    const key = JSON.stringify([latest.source, latest.id]);
    gone.delete(key);
    const machine = machines.get(key) ?? { key, source: latest.source, id: latest.id, trace: [] };
    machine.latest = latest;
    machine.trace = (whole ? trace : machine.trace.concat(trace)).slice(-KEPT);
    machine.stale = true;
    machines.set(key, machine);
  }
  for (const key of gone) drop(key);
  for (const machine of machines.values()) if (machine.latest) sources.add(machine.source);
  for (const source of down.keys()) {
    const key = JSON.stringify([source]);
    if (!sources.has(source) && !machines.has(key)) machines.set(key, { key, source, id: null, trace: [] });
  }
  for (const machine of machines.values()) {
    if (!machine.latest && (sources.has(machine.source) || !down.has(machine.source))) drop(machine.key);
    else judge(machine);
  }
}

function drop(key) {
  machines.get(key)?.row?.remove();
  machines.delete(key);
}

/** The machine's state in words, its rank among the worst, and which of its values lie outside the band. */
function judge(machine) {
  const failed = down.get(machine.source);
  const last = machine.trace.at(-1);
  const status = machine.latest?.status;
  const age = last ? facts.now - last[0] : 0;
  machine.last = last ? last[0] : 0;
  machine.out = facts.parameters.map((_, n) => isOutside(machine.trace, n + 1));
  if (failed) {
    Object.assign(machine, { rank: 0, kind: "down", state: `DOWN since ${clock(Date.parse(failed.since))}: ${plain(failed.why)}` });
  } else if (age > 3 * Math.max(1000, 1000 * facts.interval)) {
    Object.assign(machine, { rank: 2, kind: "silent", state: `silent for ${duration(age)}` });
  } else {
    const kind = typeof status === "string" && STATUSES.includes(status) ? status.toLowerCase() : "other";
    const rank = kind === "error" ? 1 : machine.out.some(Boolean) ? 3 : 4;
    Object.assign(machine, { rank, kind, state: status === null || status === undefined ? "no status" : plain(status) });
  }
}

function isOutside(trace, n) {
  const values = trace.map(row => row[n]).filter(value => value !== null);
  const last = trace.at(-1)?.[n] ?? null;
  if (last === null || values.length < 5) return false;
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.abs(last - average) > facts.threshold * Math.abs(average);
}

// --- The fleet

function nameColumns() {
  for (const parameter of facts.parameters) {
    const head = element("th", "", element("bdi", "parameter", plain(parameter)), " ", element("small", "", `now · average of ${facts.window}`));
    head.scope = "col";
    at("columns").append(head);
    const option = element("option", "", `${plain(parameter)}, highest first`);
    option.value = `parameter ${facts.parameters.indexOf(parameter) + 1}`;
    at("sort").append(option);
  }
  const head = element("th", "", "Last reading");
  head.scope = "col";
  at("columns").append(head);
}

function wanted() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...machines.values()].filter(machine => {
    const text = `${machine.source} ${machine.id ?? ""} ${machine.state}`.toLowerCase();
    return words.every(word => text.includes(word));
  });
  const sort = at("sort").value;
  const n = Number(sort.split(" ")[1]);
  const value = machine => machine.trace.at(-1)?.[n] ?? -Infinity;
  const byName = (a, b) => names.compare(a.source, b.source) || names.compare(a.id ?? "", b.id ?? "");
  const order = {
    worst: (a, b) => a.rank - b.rank || byName(a, b),
    name: byName,
    age: (a, b) => a.last - b.last || byName(a, b),
  }[sort] ?? ((a, b) => value(b) - value(a) || byName(a, b));
  return found.sort(order);
}

function showFleet() {
  const found = wanted();
  const body = at("machines").tBodies[0];
  const focused = document.activeElement;
  const rows = found.slice(0, limit).map(rowOf);
  const staying = new Set(rows);
  for (const row of [...body.rows]) if (!staying.has(row)) row.remove();
  rows.forEach((row, place) => {
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
  if (document.activeElement !== focused && focused.isConnected) focused.focus({ preventScroll: true });
  for (const machine of found.slice(0, limit)) if (machine.visible) showRow(machine);
  at("none").hidden = found.length > 0;
  write(at("none"), machines.size ? "No machine matches the search." : `No reading yet. Each source is read every ${facts.interval} s.`);
  at("more").hidden = found.length <= limit;
  write(at("more"), `Show ${several(found.length - limit, "more machine")}`);
  summarize();
}

function summarize() {
  const all = [...machines.values()];
  const count = rank => all.filter(machine => machine.rank === rank).length;
  const parts = [several(machines.size, "machine")];
  for (const [rank, what] of [[0, "down"], [1, "in ERROR"], [2, "silent"], [3, "outside the band"]])
    if (count(rank)) parts.push(`${count(rank)} ${what}`);
  if (all.length && !all.some(machine => machine.rank < 4)) parts.push("all well");
  write(at("summary"), parts.join(" · "));
  write(at("spoken"), count(0) ? `${several(count(0), "machine")} down` : "");
  document.title = count(0) ? `(${count(0)} down) Machine telemetry` : "Machine telemetry";
}

const watcher = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    const machine = machines.get(target.dataset.key);
    if (!machine) continue;
    machine.visible = isIntersecting;
    if (isIntersecting) showRow(machine);
  }
}, { rootMargin: "200px" });

function rowOf(machine) {
  if (machine.row) return machine.row;
  const name = element("button", "name", element("bdi", "", plain(machine.source)));
  const head = element("th", "", name);
  head.scope = "row";
  if (machine.id !== null) head.append(element("bdi", "id", `id ${plain(machine.id)}`));
  machine.stateNode = head.appendChild(element("bdi", "state"));
  machine.row = element("tr", "", head);
  machine.readings = facts.parameters.map(() => {
    const reading = element("div", "reading", element("b"), element("small"), spark());
    machine.row.append(element("td", "", reading));
    return reading;
  });
  machine.age = machine.row.appendChild(element("td", "age"));
  machine.row.dataset.key = machine.key;
  machine.row.addEventListener("click", () => open(machine.key));
  watcher.observe(machine.row);
  return machine.row;
}

function showRow(machine) {
  machine.row.className = machine.kind;
  machine.stateNode.className = `state ${machine.kind}`;
  write(machine.stateNode, machine.state);
  write(machine.age, machine.last ? `${duration(facts.now - machine.last)} ago` : "");
  machine.readings.forEach((reading, n) => {
    const [value, average, drawing] = reading.children;
    reading.classList.toggle("out", machine.out[n]);
    write(value, number(machine.trace.at(-1)?.[n + 1]) + (machine.out[n] ? " !" : ""));
    value.title = machine.out[n] ? "outside the band" : "";
    write(average, number(machine.latest?.[`average_${facts.parameters[n]}`]));
    if (machine.stale) drawing.firstChild.setAttribute("d", line(machine.trace, n + 1));
  });
  machine.stale = false;
}

function spark() {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 600 100");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  return drawing;
}

/** The last readings as a path; the line breaks where there were none for three intervals. */
function line(trace, n) {
  const points = trace.filter(row => row[n] !== null);
  if (!points.length) return "";
  const values = points.map(row => row[n]);
  const end = trace.at(-1)[0];
  const span = Math.max(1000 * facts.interval * (KEPT - 1), end - trace[0][0]);
  const low = Math.min(...values), high = Math.max(...values);
  const range = Math.max(high - low, 0.05 * Math.max(Math.abs(high), Math.abs(low))) || 1;
  const middle = (low + high) / 2;
  return points.map((row, i) => {
    const joined = i && row[0] - points[i - 1][0] <= 3000 * facts.interval;
    const x = 600 - 600 * (end - row[0]) / span;
    return `${joined ? "L" : "M"}${x.toFixed(0)} ${(50 - 100 * (row[n] - middle) / range).toFixed(0)}${joined ? "" : "h0"}`;
  }).join("");
}

// --- One machine

function open(key) {
  opened = key;
  at("charts").replaceChildren();
  at("setting").hidden = at("asked").hidden = true;
  write(at("result"), "");
  at("machine").showModal();
  showMachine().catch(lost);
}

async function showMachine() {
  const machine = machines.get(opened);
  if (!machine) return at("machine").close();
  write(at("machine-title"), plain(machine.source) + (machine.id === null ? "" : `, id ${plain(machine.id)}`));
  at("machine-state").className = `state ${machine.kind}`;
  write(at("machine-state"), machine.state);
  write(at("band"), `±${+(100 * facts.threshold).toPrecision(3)} % of it`);
  const query = new URLSearchParams({ source: machine.source, id: JSON.stringify(machine.id) });
  const { ok, content } = await ask(`console/machine?${query}`);
  if (opened !== machine.key) return;
  at("setting").hidden = !content.simulated;
  at("setting").dataset.number = content.simulated ?? "";
  for (const button of at("statuses").children)
    button.setAttribute("aria-pressed", String(button.textContent === machine.latest?.status));
  at("charts").replaceChildren(...(ok ? facts.parameters.map(name => figure(machine, name, content.charts[name])) : [
    element("p", "empty quiet", "This source has given no reading since the process started."),
  ]));
}

/** A chart as the server drew it. */
function figure(machine, name, drawn) {
  const latest = machine.trace.at(-1)?.[facts.parameters.indexOf(name) + 1];
  const average = machine.latest?.[`average_${name}`];
  const caption = element("figcaption", "", element("strong", "", plain(name)),
    element("span", "quiet", `now ${number(latest)}, average of the last ${machine.latest?.readings ?? 0}: ${number(average)}`));
  return element("figure", "", caption, ...new DOMParser().parseFromString(drawn, "text/html").body.children);
}

async function setStatus(status) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const { ok, status: code, content } = await ask(`machines/${at("setting").dataset.number}/status`, {
    method: "POST", headers, body: JSON.stringify({ status }),
  });
  at("asked").hidden = code !== 401;
  if (code === 401) {
    at("asked").dataset.status = status;
    at("token").focus();
  }
  write(at("result"), ok ? `${status} is set; the next reading shows it.` : plain(content.error));
}

// --- Reports and events

async function showReports() {
  const { content: days } = await ask("reports");
  at("reports").replaceChildren(...days.toReversed().map(day => {
    const link = element("a", "", day);
    link.href = `reports/${day}`;
    return element("li", "", link);
  }));
  at("no-reports").hidden = days.length > 0;
}

function showEvents(events) {
  at("no-events").hidden = events.length > 0;
  const newest = events.slice(-20).toReversed();
  const list = at("events");
  const drawn = JSON.stringify(newest) + new Date(facts.now).toDateString();
  if (list.drawn === drawn) return;
  list.drawn = drawn;
  list.replaceChildren(...newest.map(event => {
    const what = EVENTS[event.event] ?? event.event;
    const back = event.event === "source_up";
    const why = back ? ` after ${duration(1000 * event.seconds)}` : event.why ?? event.day ?? event.reason;
    const text = element("span", "", ...(event.source ? [element("bdi", "", plain(event.source)), " "] : []), plain(what));
    if (why) text.append(back ? "" : ": ", element("bdi", "quiet", plain(why)));
    return element("li", "", element("time", "", clock(Date.parse(event.at))), text);
  }));
}

// --- The round

function showTrouble(text) {
  at("trouble").hidden = !text;
  write(at("trouble"), text);
}

function lost() {
  const since = facts ? ` since ${clock(facts.now)}` : "";
  showTrouble(`No answer from the process${since}. Is it still running? This page goes on asking.`);
}

async function round() {
  if (!document.hidden) await refresh().catch(lost);
  const pause = Math.min(5, Math.max(1, (facts?.interval ?? 3) / 3));
  setTimeout(round, 1000 * pause);
}

async function reportsRound() {
  if (!document.hidden) await showReports().catch(() => {});
  setTimeout(reportsRound, 60_000);
}

function start() {
  for (const status of STATUSES) {
    const button = element("button", "", status);
    button.type = "button";
    button.addEventListener("click", () => setStatus(status).catch(lost));
    at("statuses").append(button);
  }
  at("asked").addEventListener("submit", event => {
    event.preventDefault();
    token = at("token").value;
    at("token").value = "";
    setStatus(at("asked").dataset.status).catch(lost);
  });
  at("search").addEventListener("input", () => { limit = SHOWN; if (facts) showFleet(); });
  at("sort").addEventListener("change", () => { if (facts) showFleet(); });
  at("more").addEventListener("click", () => { limit = Infinity; showFleet(); });
  at("close").addEventListener("click", () => at("machine").close());
  at("machine").addEventListener("close", () => { opened = null; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(lost); });
  round();
  reportsRound();
}

start();
