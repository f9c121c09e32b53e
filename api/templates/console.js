// The console: polls console.json for new readings; console_table.js keeps a table row for each machine. Text that a machine or a
// source sends is inserted as text, never as markup.
"use strict";

const TRACE_LENGTH = 60; // readings of a trace; the process keeps as many
const INITIAL_ROWS = 100; // more rows are shown on request
const REQUEST_TIMEOUT_MS = 10_000;
const REPORTS_PERIOD_MS = 60_000;
const MIN_VALUES = 5; // fewer values have no meaningful average
const NO_NUMBER_READINGS = 3; // readings in a row without a number for a parameter that are a fault
const MAX_EVENTS = 20;
const STATUSES = ["STARTED", "COMPLETED", "IDLE", "ERROR"];
const SEVERITY = { alarm: 0, down: 1, error: 2, silent: 3, outside: 4, noNumber: 5, normal: 6 };
const EVENT_TEXTS = {
  source_down: "is down", source_up: "answers again", rejected: "sent an invalid reading", start: "the process started",
  stop: "the process stopped", report: "a report was written", gap: "readings are missing", clock_step: "the clock was changed",
  no_number: "numbers are missing", settings: "the settings changed", repaired: "a file was repaired", truncated: "a file was changed by another program",
  dropped: "the disk took no lines for a while",
};
const ABOUT_A_SOURCE = new Set(["source_down", "source_up", "rejected"]); // their texts continue a sentence that the source begins

const byId = id => document.getElementById(id);
const collator = new Intl.Collator("en", { numeric: true });
const machines = new Map(); // by key: {key, source, id (as JSON text), label, latest, trace, and the fields that `classify` sets}
let overview = null; // the last answer of console.json: interval, parameters, threshold ...
let downSources = new Map();
let raisedAlarms = new Map(); // by the key of the machine: the alarms that are raised
let rowLimit = INITIAL_ROWS;
let openKey = null; // the key of the machine in the dialog
let token = "";

// --- Text

function plain(value) {
  const text = String(value).replace(/\p{C}/gu, "\ufffd");
  return text.length > 100 ? text.slice(0, 99) + "…" : text;
}

function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size === 0 || (size >= 0.01 && size < 1e7) ? value.toFixed(2) : value.toPrecision(3);
}

function formatDuration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** A time in the configured zone, with its date if that is not today. */
function formatTime(milliseconds) {
  const timeZone = overview.timezone;
  const dateFormat = new Intl.DateTimeFormat("en-CA", { timeZone });
  const time = new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "medium" }).format(milliseconds);
  const date = dateFormat.format(milliseconds);
  return date === dateFormat.format(overview.now) ? time : `${date} ${time}`;
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function element(name, className, ...content) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

/** Set the text of a node only if it changes, so that a screen reader does not repeat it. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// --- Polling

async function fetchJson(path, options) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  return { ok: response.ok, status: response.status, content: await response.json() };
}

async function refresh() {
  const [{ content }, events] = await Promise.all([
    fetchJson(`console.json?since=${overview?.mark ?? 0}`), fetchJson("events"),
  ]);
  const isFirst = !overview;
  overview = content;
  downSources = new Map(content.down.map(entry => [entry.source, entry]));
  raisedAlarms = new Map();
  for (const alarm of content.alarms) {
    const key = keyOf(alarm.source, alarm.id);
    raisedAlarms.set(key, [...raisedAlarms.get(key) ?? [], alarm]);
  }
  if (isFirst) addColumns();
  updateMachines(content);
  showMachines();
  showEvents(events.content);
  showProblem(content.not_ready.length ? `Not ready: ${content.not_ready.join("; ")}.` : "");
  setText(byId("updated"), `updated ${formatTime(content.now)}`);
  if (openKey) await showDialog();
}

/** Merge an answer into `machines`. If it is `whole`, it has every machine, else those with new readings. */
function updateMachines({ machines: updates, whole }) {
  const outdated = whole ? new Set(machines.keys()) : new Set();
  for (const { id, latest, trace } of updates) {
    const key = keyOf(latest.source, id); // the id in `latest` is no longer exact, if it is a number beyond 2^53
    outdated.delete(key);
    const machine = machines.get(key) ?? { key, source: latest.source, id, label: labelOf(id), trace: [] };
    machine.latest = latest;
    machine.trace = (whole ? trace : machine.trace.concat(trace)).slice(-TRACE_LENGTH);
    machine.isRedrawNeeded = true;
    machines.set(key, machine);
  }
  outdated.forEach(removeMachine);
  // A source that is down and has sent no reading has a row of its own.
  const withReadings = new Set([...machines.values()].filter(machine => machine.latest).map(machine => machine.source));
  for (const source of downSources.keys()) {
    const key = JSON.stringify([source]);
    if (!withReadings.has(source) && !machines.has(key)) machines.set(key, { key, source, id: "null", label: null, trace: [] });
  }
  // So has a machine whose alarm is raised, and that was silent for so long that its readings are forgotten.
  for (const [key, [{ source, id }]] of raisedAlarms)
    if (!machines.has(key)) machines.set(key, { key, source, id, label: labelOf(id), trace: [] });
  for (const machine of machines.values()) {
    const isObsolete = !machine.latest && !raisedAlarms.has(machine.key) && (withReadings.has(machine.source) || !downSources.has(machine.source));
    if (isObsolete) removeMachine(machine.key);
    else classify(machine);
  }
}

const keyOf = (source, id) => JSON.stringify([source, id]);

/** An id as it is shown: a number as its digits, a text without quotes; null where there is none. */
function labelOf(id) {
  return id.startsWith('"') ? JSON.parse(id) : id === "null" ? null : id;
}

function removeMachine(key) {
  machines.get(key)?.row?.remove();
  machines.delete(key);
}

/** Set a machine's severity, its state (the class `kind` and a text), and which of its last values are outside the band. */
function classify(machine) {
  const failure = downSources.get(machine.source);
  const status = machine.latest?.status;
  machine.lastTime = machine.trace.at(-1)?.[0] ?? 0;
  machine.outside = overview.parameters.map((_, n) => isOutside(machine.trace, n + 1));
  const lacking = overview.parameters.filter((_, n) => lacksNumbers(machine.trace, n + 1));
  const age = machine.lastTime ? overview.now - machine.lastTime : 0;
  machine.isDown = Boolean(failure);
  if (failure) {
    const text = `DOWN since ${formatTime(Date.parse(failure.since))}: ${plain(failure.why)}`;
    Object.assign(machine, { severity: SEVERITY.down, kind: "down", state: text });
  } else if (age > Math.max(3000, 1000 * overview.silent_after)) {
    Object.assign(machine, { severity: SEVERITY.silent, kind: "silent", state: `silent for ${formatDuration(age)}` });
  } else {
    const state = status === null || status === undefined ? "no status" : plain(status);
    const kind = typeof status === "string" && STATUSES.includes(status) ? status.toLowerCase() : "other";
    const severity = kind === "error" ? SEVERITY.error : machine.outside.some(Boolean) ? SEVERITY.outside : SEVERITY.normal;
    Object.assign(machine, { severity, kind, state });
    if (lacking.length) machine.state += `; no number for ${lacking.map(name => plain(name)).join(", ")}`;
    if (lacking.length && severity === SEVERITY.normal) Object.assign(machine, { severity: SEVERITY.noNumber, kind: "no-number" });
  }
  const alarms = raisedAlarms.get(machine.key);
  if (alarms) Object.assign(machine, { severity: SEVERITY.alarm, kind: "alarm", state: [...alarms.map(alarmText), machine.state].join("; ") });
}

function alarmText({ alarm, holds, since }) {
  return `ALARM ${plain(alarm)}: ${plain(holds)} since ${formatTime(Date.parse(since))}`;
}

function lacksNumbers(trace, column) {
  return trace.length >= NO_NUMBER_READINGS && trace.slice(-NO_NUMBER_READINGS).every(row => row[column] === null);
}

function isOutside(trace, column) {
  const values = trace.map(row => row[column]).filter(value => value !== null);
  const last = trace.at(-1)?.[column] ?? null;
  if (last === null || values.length < MIN_VALUES) return false;
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.abs(last - average) > overview.threshold * Math.abs(average);
}

// --- The dialog of one machine

function openDialog(key) {
  openKey = key;
  byId("charts").replaceChildren();
  byId("status-form").hidden = byId("token-form").hidden = true;
  setText(byId("status-result"), "");
  byId("machine").showModal();
  showDialog().catch(showConnectionLost);
}

async function showDialog() {
  const machine = machines.get(openKey);
  if (!machine) return byId("machine").close();
  setText(byId("machine-title"), plain(machine.source) + (machine.label === null ? "" : `, id ${plain(machine.label)}`));
  byId("machine-state").className = `state ${machine.kind}`;
  setText(byId("machine-state"), machine.state);
  setText(byId("band"), `average ±${+(100 * overview.threshold).toPrecision(3)} %`);
  const query = new URLSearchParams({ source: machine.source, id: machine.id });
  const { ok, content } = await fetchJson(`console/machine?${query}`);
  if (openKey !== machine.key) return;
  byId("status-form").hidden = !content.simulated;
  byId("status-form").dataset.number = content.simulated ?? "";
  for (const button of byId("statuses").children)
    button.setAttribute("aria-pressed", String(button.textContent === machine.latest?.status));
  byId("charts").replaceChildren(...(ok ? overview.parameters.map(name => figure(machine, name, content.charts[name])) : [
    element("p", "empty quiet", "No reading of this source is known."),
  ]));
}

/** A chart, which the server has drawn, with its caption. */
function figure(machine, parameter, chart) {
  const latest = machine.trace.at(-1)?.[overview.parameters.indexOf(parameter) + 1];
  const average = machine.latest?.[`average_${parameter}`];
  const count = counted(machine.latest?.readings ?? 0, "reading");
  const caption = element("figcaption", "", element("strong", "", plain(parameter)),
    element("span", "quiet", `latest ${formatNumber(latest)}, average of the last ${count}: ${formatNumber(average)}`));
  return element("figure", "", caption, ...new DOMParser().parseFromString(chart, "text/html").body.children);
}

async function setStatus(status) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const { ok, status: code, content } = await fetchJson(`machines/${byId("status-form").dataset.number}/status`, {
    method: "POST", headers, body: JSON.stringify({ status }),
  });
  byId("token-form").hidden = code !== 401;
  if (code === 401) {
    byId("token-form").dataset.status = status;
    byId("token").focus();
  }
  setText(byId("status-result"), ok ? `${status} is set; the next reading shows it.` : plain(content.error));
}

// --- Reports and events

async function showReports() {
  const { content: days } = await fetchJson("reports");
  byId("reports").replaceChildren(...days.toReversed().map(day => {
    const link = element("a", "", day);
    link.href = `reports/${day}`;
    return element("li", "", link);
  }));
  byId("no-reports").hidden = days.length > 0;
}

function showEvents(events) {
  byId("no-events").hidden = events.length > 0;
  const newest = events.slice(-MAX_EVENTS).toReversed();
  const list = byId("events");
  const content = JSON.stringify(newest) + new Date(overview.now).toDateString();
  if (list.shownContent === content) return;
  list.shownContent = content;
  list.replaceChildren(...newest.map(event => element("li", "", element("time", "", formatTime(Date.parse(event.at))), eventText(event))));
}

function eventText(event) {
  const text = element("span", "");
  if (event.source) text.append(element("bdi", "", plain(event.source)), ABOUT_A_SOURCE.has(event.event) ? " " : ": ");
  const isNotification = event.event === "dropped" && event.reason === "notify";
  text.append(isNotification ? "notification not delivered" : plain(EVENT_TEXTS[event.event] ?? event.event));
  if (event.event === "source_up") {
    text.append(element("bdi", "quiet", ` after ${formatDuration(1000 * event.seconds)}`));
  } else {
    const detail = event.why ?? event.day ?? event.reason;
    if (detail) text.append(": ", element("bdi", "quiet", plain(detail)));
  }
  return text;
}

// --- Timers and controls

function showProblem(text) {
  byId("problem").hidden = !text;
  setText(byId("problem"), text);
}

function showConnectionLost() {
  const since = overview ? ` since ${formatTime(overview.now)}` : "";
  showProblem(`No answer from the process${since}. Is it still running? The page keeps trying.`);
}

async function pollReadings() {
  if (!document.hidden) await refresh().catch(showConnectionLost);
  const seconds = Math.min(5, Math.max(1, (overview?.interval ?? 3) / 3));
  setTimeout(pollReadings, 1000 * seconds);
}

async function pollReports() {
  if (!document.hidden) await showReports().catch(() => {}); // pollReadings shows that the connection is lost
  setTimeout(pollReports, REPORTS_PERIOD_MS);
}

function start() {
  for (const status of STATUSES) {
    const button = element("button", "", status);
    button.type = "button";
    button.addEventListener("click", () => setStatus(status).catch(showConnectionLost));
    byId("statuses").append(button);
  }
  byId("token-form").addEventListener("submit", event => {
    event.preventDefault();
    token = byId("token").value;
    byId("token").value = "";
    setStatus(byId("token-form").dataset.status).catch(showConnectionLost);
  });
  byId("search").addEventListener("input", () => { rowLimit = INITIAL_ROWS; if (overview) showMachines(); });
  byId("sort").addEventListener("change", () => { if (overview) showMachines(); });
  byId("show-all").addEventListener("click", () => { rowLimit = Infinity; showMachines(); });
  byId("close").addEventListener("click", () => byId("machine").close());
  byId("machine").addEventListener("close", () => { openKey = null; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(showConnectionLost); });
  pollReadings();
  pollReports();
}

start();
