// The reports with what they found, and the incidents of the last seven days.
"use strict";

const REPORTS_PERIOD_S = 60;
const INITIAL_DAYS = 7;
const INITIAL_INCIDENTS = 5;

let reports = null; // the last answer of console/reports, or the dates alone: {reports, incidents, more}
let isWholeShown = { reports: false, incidents: false }; // whether all entries of a list are shown, not only the newest

/** Show the reports with their figures, and until these are there, the dates. Returns the seconds until the next request. */
async function refreshReports() {
  if (!reports?.incidents) {
    const { content: dates } = await fetchJson("reports");
    reports = { reports: dates.toReversed().map(date => ({ date })), incidents: null, more: 0 };
    showReports();
  }
  const { ok, content, retryAfter } = await fetchJson("console/reports", {}, DAY_FILES_TIMEOUT_MS);
  if (ok) reports = content;
  showReports();
  return ok ? REPORTS_PERIOD_S : Math.min(retryAfter || REPORTS_PERIOD_S, REPORTS_PERIOD_S);
}

function showReports() {
  if (!reports || !overview || !isNewContent(byId("reports"), [reports, isWholeShown])) return; // the first overview calls again
  const days = isWholeShown.reports ? reports.reports : reports.reports.slice(0, INITIAL_DAYS);
  byId("reports").tBodies[0].replaceChildren(...days.map(reportRow));
  byId("reports").hidden = days.length === 0;
  byId("no-reports").hidden = days.length > 0;
  showRest("reports", reports.reports.length - days.length, "earlier day");
  const incidents = reports.incidents ?? [];
  const listed = isWholeShown.incidents ? incidents : incidents.slice(0, INITIAL_INCIDENTS);
  byId("incidents").replaceChildren(...listed.map(incidentItem));
  byId("incidents-section").hidden = reports.incidents === null;
  byId("no-incidents").hidden = listed.length > 0;
  showRest("incidents", incidents.length - listed.length, "more incident");
  byId("more-incidents").hidden = !reports.more || listed.length < incidents.length;
  setText(byId("more-incidents"), `${counted(reports.more, "older incident")} in the reports.`);
}

function showRest(list, count, noun) {
  byId(`rest-of-${list}`).hidden = count === 0;
  setText(byId(`rest-of-${list}`), `Show ${counted(count, noun)}`);
}

/** A day with its figures; a report that was not read has none. */
function reportRow({ date, incidents, lasting, anomalies, readings, expected }) {
  const head = element("th", "", linkTo(`reports/${date}`, date));
  head.scope = "row";
  if (incidents === undefined) return element("tr", "", head, element("td"), element("td"), element("td"));
  const count = number => element("td", number ? "" : "quiet", number.toLocaleString("en"));
  const incidentCell = count(incidents);
  if (lasting) incidentCell.append(element("small", "", `${lasting.toLocaleString("en")} lasting`));
  return element("tr", "", head, incidentCell, count(anomalies), element("td", "", shareOf(readings, expected)));
}

/** A share in per cent, rounded down: only a complete day is 100 %. */
const shareOf = (part, whole) => whole ? `${Math.floor(1000 * part / whole) / 10} %` : "–";

function incidentItem({ date, source, id, parameter, start, lasting, why }) {
  const query = new URLSearchParams({ source, id, date });
  const seconds = Math.floor(Date.parse(start) / 1000);
  const address = `machines/day?${query}${Number.isNaN(seconds) ? "" : `#at=${seconds}`}`;
  const text = element("span", "", linkTo(address, element("bdi", "", nameOf({ source, label: labelOf(id) }))));
  if (parameter !== null) text.append(" ", element("bdi", "", plain(parameter)));
  text.append(": ", element("bdi", "quiet", plain(why, 2 * MAX_NAME_CHARACTERS) + (lasting ? " (lasting)" : "")));
  return element("li", "", element("time", "", formatTimestamp(start)), text);
}

function startReports() {
  for (const list of Object.keys(isWholeShown))
    byId(`rest-of-${list}`).addEventListener("click", () => {
      const shown = byId(list).querySelectorAll("a").length;
      isWholeShown = { ...isWholeShown, [list]: true };
      showReports();
      byId(list).querySelectorAll("a")[shown]?.focus(); // the button is hidden now
    });
}
