// The panel of one machine: its address (#source=...&id=...&hours=...), its charts over a range, and the status of a simulated machine.
"use strict";

const DAY_FILES_TIMEOUT_MS = 60_000; // the process waits for a child that reads the day files
const DAY_FILES_PERIOD_S = 60;
const RETRY_S = 5; // where the process does not say when to ask again
const NO_READING = "No reading of this machine is in memory. Choose a longer range, or open the whole day.";
const RANGES_HOURS = [0, 1, 24]; // 0: the last readings, which the process keeps in memory

let opened = null; // what the panel shows: {source, id (as JSON text), hours, due, isLoading}; null while it is closed
let token = "";

// --- The address

/** The machine and the range that the address names; null if it names none. */
function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  const source = query.get("source");
  const hours = Number(query.get("hours"));
  return !source ? null : { source, id: query.get("id") ?? "null", hours: RANGES_HOURS.includes(hours) ? hours : 0, due: 0 };
}

const addressOf = ({ source, id, hours }) => `#${new URLSearchParams({ source, id, ...(hours && { hours }) })}`;

/** Open the panel of a machine as a new entry of the browser's history, which the back button leaves. */
function openPanel({ source, id }) {
  history.pushState({ isOpenedHere: true }, "", addressOf({ source, id, hours: 0 }));
  followAddress();
}

/** Open, change or close the panel as the address says. */
function followAddress() {
  const address = readAddress();
  if (!overview) return; // the first answer opens it
  if (!address) return byId("machine").close();
  opened = address;
  byId("charts").replaceChildren();
  byId("status-form").hidden = byId("token-form").hidden = true;
  setText(byId("status-result"), "");
  setText(byId("charts-notice"), "");
  if (!byId("machine").open) byId("machine").showModal();
  showPanel();
}

/** The address of a closed panel names no machine: go back to the table, or stay on the page if a link opened the panel. */
function leaveAddress() {
  opened = null;
  if (!readAddress()) return;
  if (history.state?.isOpenedHere) history.back();
  else history.replaceState(null, "", location.pathname + location.search);
}

function setRange(hours) {
  if (opened.hours === hours) return;
  opened = { ...opened, hours, due: 0, isLoading: false };
  history.replaceState(history.state, "", addressOf(opened));
  byId("charts").replaceChildren();
  showPanel();
}

// --- The content

/** The opened machine; one that is not in the table, as it has sent nothing since the start, has a state nevertheless. */
function openedMachine() {
  const machine = machineOf(opened.source, opened.id);
  if (!machines.has(machine.key)) classify(machine);
  return machine;
}

function showPanel() {
  const machine = openedMachine();
  setText(byId("machine-title"), nameOf(machine));
  showStates(byId("machine-state"), machine.states);
  setText(byId("band"), `average ±${+(100 * overview.threshold).toPrecision(3)} %`);
  for (const item of document.querySelectorAll(".legend .of-hours")) item.hidden = !opened.hours;
  byId("day").href = `machines/day?${new URLSearchParams({ source: machine.source, id: machine.id })}`;
  for (const button of byId("ranges").children) {
    const hours = Number(button.value);
    if (!hours) setText(button, formatDuration(1000 * TRACE_LENGTH * overview.interval));
    button.hidden = hours > 0 && 3600 * hours <= TRACE_LENGTH * overview.interval;
    button.setAttribute("aria-pressed", String(hours === opened.hours));
  }
  for (const button of byId("statuses").children)
    button.setAttribute("aria-pressed", String(button.textContent === machine.latest?.status));
  loadCharts(opened, machine);
}

/** Ask for the charts if it is time to, and show them if the panel still shows this view then. */
async function loadCharts(view, machine) {
  if (view.isLoading || Date.now() < view.due) return;
  if (!view.hours && !machine.latest) return setText(byId("charts-notice"), NO_READING);
  view.isLoading = true;
  if (!byId("charts").children.length)
    setText(byId("charts-notice"), view.hours ? "Reading the day files …" : "Loading …");
  const query = new URLSearchParams({ source: view.source, id: view.id, ...(view.hours && { hours: view.hours }) });
  try {
    const answer = await fetchJson(`console/machine?${query}`, {}, view.hours ? DAY_FILES_TIMEOUT_MS : REQUEST_TIMEOUT_MS);
    if (opened !== view) return;
    const delay = answer.status === 503 ? answer.retryAfter || RETRY_S : view.hours ? DAY_FILES_PERIOD_S : 0;
    view.due = Date.now() + 1000 * delay;
    if (answer.ok) showCharts(machine, view, answer.content);
    setText(byId("charts-notice"), noticeOf(answer, view, delay));
  } catch {
    if (opened !== view) return;
    view.due = Date.now() + 1000 * RETRY_S;
    setText(byId("charts-notice"), "No answer from the process; the page asks again.");
  } finally {
    view.isLoading = false;
  }
}

/** What to say beside the charts: why there are none, or none newer. */
function noticeOf({ ok, status, content }, { hours }, delay) {
  if (ok) return Object.keys(content.charts).length ? "" : "No value in this range.";
  if (status === 404 && !hours) return NO_READING;
  const error = plain(content.error ?? `The process answered with the code ${status}`, MAX_REASON_CHARACTERS).replace(/\.$/, "");
  return status === 503 ? `${error}. The page asks again in ${delay} s.` : `${error}.`;
}

function showCharts(machine, view, { simulated, charts }) {
  byId("status-form").hidden = !simulated;
  byId("status-form").dataset.number = simulated ?? "";
  const shown = new Map([...byId("charts").children].map(node => [node.dataset.parameter, node]));
  const figures = overview.parameters.filter(name => charts[name]).map(name => figureOf(shown.get(name), machine, view, name, charts[name]));
  if (figures.length !== shown.size || figures.some(node => !node.isConnected)) byId("charts").replaceChildren(...figures);
}

/** A chart, which the server has drawn, with its caption; values.js shows the same time in a chart that replaces another. */
function figureOf(node, machine, view, parameter, html) {
  const figure = node ?? element("figure", "", element("figcaption", "", element("strong", "", plain(parameter)), element("span", "quiet")));
  figure.dataset.parameter = parameter;
  setText(figure.querySelector("figcaption span"), view.hours ? overview.units[parameter] ?? "" : captionOf(machine, parameter));
  if (isNewContent(figure, html)) {
    figure.querySelector(".chart")?.remove();
    figure.append(...new DOMParser().parseFromString(html, "text/html").body.children);
  }
  return figure;
}

function captionOf(machine, parameter) {
  const column = overview.parameters.indexOf(parameter) + 1;
  const decimals = decimalsOf(machine.trace, column);
  const latest = formatNumber(machine.trace.at(-1)?.[column], decimals);
  const average = formatNumber(machine.latest?.[`average_${parameter}`], averageDecimals(decimals));
  const count = counted(machine.latest?.readings ?? 0, "reading");
  return `latest ${withUnit(latest, parameter)}, average of the last ${count}: ${withUnit(average, parameter)}`;
}

// --- The status of a simulated machine

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

function startPanel() {
  for (const status of STATUSES) {
    const button = element("button", "", status);
    button.type = "button";
    button.addEventListener("click", () => setStatus(status).catch(showConnectionLost));
    byId("statuses").append(button);
  }
  for (const hours of RANGES_HOURS) {
    const button = element("button", "", `${hours} h`);
    button.type = "button";
    button.value = hours;
    button.addEventListener("click", () => setRange(hours));
    byId("ranges").append(button);
  }
  byId("token-form").addEventListener("submit", event => {
    event.preventDefault();
    token = byId("token").value;
    byId("token").value = "";
    setStatus(byId("token-form").dataset.status).catch(showConnectionLost);
  });
  byId("close").addEventListener("click", () => byId("machine").close());
  byId("machine").addEventListener("close", leaveAddress);
  addEventListener("hashchange", followAddress);
}
