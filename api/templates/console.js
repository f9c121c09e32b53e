// The console: polls console.json for new readings, and the reports less often. The other files show what they say.
"use strict";

const REQUEST_TIMEOUT_MS = 10_000;

/** The JSON of an answer, with its code and the seconds after which to ask again, if it says so. */
async function fetchJson(path, options = {}, timeout = REQUEST_TIMEOUT_MS) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(timeout) });
  const content = await response.json().catch(error => {
    if (response.ok) throw error;
    return {}; // the error page of a proxy
  });
  return { ok: response.ok, status: response.status, content, retryAfter: Number(response.headers.get("Retry-After")) };
}

async function refresh() {
  const [{ ok, content }, events] = await Promise.all([
    fetchJson(`console.json?since=${overview?.mark ?? 0}`), fetchJson("events"),
  ]);
  if (!ok || !events.ok) throw new Error("the process cannot answer now");
  const isFirst = !overview;
  takeOverview(content);
  if (isFirst) addColumns();
  showUnits();
  showMachines();
  showEvents(events.content);
  showProblem(content.not_ready.length ? `Not ready: ${content.not_ready.join("; ")}.` : "");
  setText(byId("updated"), `updated ${formatTime(content.now)}`);
  if (isFirst) {
    showReports();
    followAddress();
  } else if (opened) {
    showPanel();
  }
}

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
  let seconds = REPORTS_PERIOD_S;
  if (!document.hidden) seconds = await refreshReports().catch(() => RETRY_S); // pollReadings shows that the connection is lost
  setTimeout(pollReports, 1000 * seconds);
}

function start() {
  byId("search").addEventListener("input", () => { rowLimit = INITIAL_ROWS; if (overview) showMachines(); });
  byId("sort").addEventListener("change", () => { if (overview) showMachines(); });
  byId("show-all").addEventListener("click", () => { rowLimit = Infinity; showMachines(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(showConnectionLost); });
  startPanel();
  startReports();
  pollReadings();
  pollReports();
}

start();
