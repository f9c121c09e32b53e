// The recent events in words. A source that flaps is one line.
"use strict";

const MAX_EVENTS = 20;
const EVENT_TEXTS = {
  source_down: "is down", source_up: "answers again", rejected: "sent an invalid reading", start: "the process started",
  stop: "the process stopped", report: "a report was written", gap: "readings are missing", clock_step: "the clock was changed",
  no_number: "numbers are missing", settings: "the settings changed", repaired: "a file was repaired", truncated: "a file was changed by another program",
  dropped: "the disk took no lines for a while",
};
const ABOUT_A_SOURCE = new Set(["source_down", "source_up", "rejected"]); // their texts continue a sentence that the source begins

/** Whether an event is one of those that a flapping source repeats. */
const isOfFlapping = event => ABOUT_A_SOURCE.has(event.event) && flappingSources.has(event.source);

/** Show the newest events; of those that a flapping source repeats only the newest, with their count. */
function showEvents(events) {
  const folded = new Set();
  const newest = events.toReversed().filter(event => {
    if (!isOfFlapping(event)) return true;
    const isFirst = !folded.has(event.source);
    folded.add(event.source);
    return isFirst;
  }).slice(0, MAX_EVENTS);
  byId("no-events").hidden = newest.length > 0;
  const states = newest.filter(isOfFlapping).map(({ source }) => [flappingSources.get(source), downSources.has(source)]);
  if (!isNewContent(byId("events"), [newest, states, new Date(overview.now).toDateString()])) return;
  byId("events").replaceChildren(...newest.map(event => element("li", "", element("time", "", formatTimestamp(event.at)), eventText(event))));
}

function eventText(event) {
  if (isOfFlapping(event)) return flappingText(event.source);
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

function flappingText(source) {
  const text = element("span", "", element("bdi", "", plain(source)), ` is flapping: ${outagesText(flappingSources.get(source))}, `);
  const failure = downSources.get(source);
  if (failure) text.append("is down now: ", element("bdi", "quiet", plain(failure.why)));
  else text.append("answers now");
  return text;
}
