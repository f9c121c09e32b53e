// What the console knows: each machine with its last readings, its state and how severe that is.
"use strict";

const TRACE_LENGTH = 60; // readings of a trace; the process keeps as many
const MIN_VALUES = 5; // fewer values have no meaningful average
const NO_NUMBER_READINGS = 3; // readings in a row without a number for a parameter that are a fault
const MAX_OUTAGES = 20; // the process counts no more of a source
const STATUSES = ["STARTED", "COMPLETED", "IDLE", "ERROR"];
const SEVERITY = { alarm: 0, down: 1, flapping: 2, error: 3, silent: 4, outside: 5, noNumber: 6, normal: 7 };

const machines = new Map(); // by key: {key, source, id (as JSON text), label, latest, trace, and the fields that `classify` sets}
let overview = null; // the last answer of console.json: interval, parameters, units, threshold ...
let downSources = new Map(); // by name, like the next
let flappingSources = new Map();
let raisedAlarms = new Map(); // by the key of the machine: the alarms that are raised
let isOrderOutdated = true; // whether a machine came or went since `rankMachines`

const keyOf = (source, id) => JSON.stringify([source, id]);

/** An id as it is shown: a number as its digits, a text without quotes; null where there is none. */
function labelOf(id) {
  if (!id.startsWith('"')) return id === "null" ? null : id;
  try {
    return JSON.parse(id);
  } catch {
    return id; // of an address that somebody cut
  }
}

/** The name of a machine, in full. */
const nameOf = ({ source, label }) => plain(source) + (label === null ? "" : `, id ${plain(label)}`);

/** Take an answer of console.json. If it is `whole`, it has every machine, else those with new readings. */
function takeOverview(content) {
  overview = content;
  downSources = new Map(content.down.map(entry => [entry.source, entry]));
  flappingSources = new Map(content.flapping.map(entry => [entry.source, entry]));
  raisedAlarms = new Map();
  for (const alarm of content.alarms) {
    const key = keyOf(alarm.source, alarm.id);
    raisedAlarms.set(key, [...raisedAlarms.get(key) ?? [], alarm]);
  }
  addReadings(content);
  addMachinesWithoutReadings();
  rankMachines();
}

function machineOf(source, id) {
  const key = keyOf(source, id);
  return machines.get(key) ?? { key, source, id, label: labelOf(id), trace: [] };
}

function addReadings({ machines: updates, whole }) {
  const outdated = whole ? new Set(machines.keys()) : new Set();
  for (const { id, latest, trace } of updates) {
    const machine = machineOf(latest.source, id); // the id in `latest` is no longer exact, if it is a number beyond 2^53
    outdated.delete(machine.key);
    machine.latest = latest;
    machine.trace = (whole ? trace : machine.trace.concat(trace)).slice(-TRACE_LENGTH);
    machine.isRedrawNeeded = true;
    addMachine(machine);
  }
  outdated.forEach(removeMachine);
}

/** A source that is down or flaps has a row, if none of its machines has; and so has a machine with an alarm whose readings are forgotten. */
function addMachinesWithoutReadings() {
  const withAlarms = [...raisedAlarms.values()].map(([alarm]) => alarm);
  const withReadings = [...machines.values()].filter(machine => machine.latest);
  const withRows = new Set([...withReadings, ...withAlarms].map(({ source }) => source));
  for (const source of [...downSources.keys(), ...flappingSources.keys()])
    if (!withRows.has(source)) addMachine(machineOf(source, "null"));
  for (const { source, id } of withAlarms) addMachine(machineOf(source, id));
  for (const machine of machines.values()) {
    const isForSource = !withRows.has(machine.source) && (downSources.has(machine.source) || flappingSources.has(machine.source));
    if (machine.latest || isForSource || raisedAlarms.has(machine.key)) classify(machine);
    else removeMachine(machine.key);
  }
}

function addMachine(machine) {
  if (machines.has(machine.key)) return;
  machines.set(machine.key, machine);
  isOrderOutdated = true;
}

function removeMachine(key) {
  machines.get(key)?.row?.remove();
  machines.delete(key);
  isOrderOutdated = true;
}

/** Number the machines by name; comparing 10,000 names takes longer than everything else that an answer needs. */
function rankMachines() {
  if (!isOrderOutdated) return;
  isOrderOutdated = false;
  const byName = (a, b) => collator.compare(a.source, b.source) || collator.compare(a.label ?? "", b.label ?? "");
  [...machines.values()].sort(byName).forEach((machine, rank) => { machine.rank = rank; });
}

/**
 * Set a machine's severity, its states, and which of its last values are outside the band. A state has a class `kind` and a text, and
 * may be a fault, whose text is long. The worst comes first.
 */
function classify(machine) {
  const failure = downSources.get(machine.source);
  const flapping = flappingSources.get(machine.source);
  const alarms = raisedAlarms.get(machine.key) ?? [];
  machine.lastTime = machine.trace.at(-1)?.[0] ?? 0;
  machine.outside = overview.parameters.map((_, n) => isOutside(machine.trace, n + 1));
  machine.isDown = Boolean(failure);
  machine.isFlapping = Boolean(flapping);
  const faults = alarms.map(alarm => fault("alarm", alarmText(alarm)));
  if (failure) faults.push(fault("down", `DOWN since ${formatTimestamp(failure.since)}: ${plain(failure.why, MAX_REASON_CHARACTERS)}`));
  if (flapping) faults.push(fault("flapping", `flapping: ${outagesText(flapping)}`));
  const [severity, states] = failure ? [SEVERITY.down, []] : stateOf(machine);
  machine.severity = alarms.length ? SEVERITY.alarm : Math.min(severity, flapping ? SEVERITY.flapping : severity);
  machine.states = [...faults, ...states];
  machine.kind = machine.states[0].kind;
  machine.state = machine.states.map(({ text }) => text).join("; ");
}

const fault = (kind, text) => ({ kind, text, isFault: true });

/** The severity and states that the readings of a machine give it. */
function stateOf({ latest, trace, lastTime, outside }) {
  if (!latest) return [SEVERITY.silent, [{ kind: "silent", text: "no recent reading" }]];
  const age = lastTime ? overview.now - lastTime : 0;
  if (age > Math.max(3000, 1000 * overview.silent_after)) return [SEVERITY.silent, [{ kind: "silent", text: `silent for ${formatDuration(age)}` }]];
  const { status } = latest;
  const kind = typeof status === "string" && STATUSES.includes(status) ? status.toLowerCase() : "other";
  const states = [{ kind, text: status === null || status === undefined ? "no status" : plain(status) }];
  const lacking = overview.parameters.filter((_, n) => lacksNumbers(trace, n + 1));
  if (lacking.length) states.push(fault("no-number", `no number for ${lacking.map(name => plain(name)).join(", ")}`));
  if (kind === "error") return [SEVERITY.error, states];
  if (outside.some(Boolean)) return [SEVERITY.outside, states];
  return [lacking.length ? SEVERITY.noNumber : SEVERITY.normal, states];
}

function outagesText({ outages, since }) {
  return `down ${outages}${outages < MAX_OUTAGES ? "" : " or more"} times since ${formatTimestamp(since)}`;
}

function alarmText({ alarm, holds, since }) {
  return `ALARM ${plain(alarm)}: ${plain(holds)} since ${formatTimestamp(since)}`;
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
