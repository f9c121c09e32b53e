// The console's table: a row for each machine, the worst first, and the sentence above it.
"use strict";

const INITIAL_ROWS = 100; // more rows are shown on request
const MAX_ROW_FAULTS = 3; // lines in the row of a machine; its panel has all of them

let rowLimit = INITIAL_ROWS;

function addColumns() {
  overview.parameters.forEach((parameter, n) => {
    const details = element("small", "", `latest · average of ${overview.window}`);
    const head = element("th", "", element("bdi", "parameter", plain(parameter)), " ", element("bdi", "unit"), " ", details);
    head.scope = "col";
    byId("columns").append(head);
    const option = element("option", "", `${plain(parameter)}, highest first`);
    option.value = `parameter ${n + 1}`;
    byId("sort").append(option);
  });
  const head = element("th", "", "Last reading");
  head.scope = "col";
  byId("columns").append(head);
}

/** A reload of the config may change the units. */
function showUnits() {
  byId("columns").querySelectorAll(".unit").forEach((node, n) => setText(node, overview.units[overview.parameters[n]] ?? ""));
}

/** The machines that match the search, in the selected order. */
function selectMachines() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = [...machines.values()].filter(machine => {
    const text = `${machine.source} ${machine.label ?? ""} ${machine.state}`.toLowerCase();
    return words.every(word => text.includes(word));
  });
  const sort = byId("sort").value;
  const column = Number(sort.split(" ")[1]);
  const lastValue = machine => machine.trace.at(-1)?.[column] ?? -Infinity;
  const byName = (a, b) => a.rank - b.rank;
  const order = {
    severity: (a, b) => a.severity - b.severity || byName(a, b),
    name: byName,
    age: (a, b) => a.lastTime - b.lastTime || byName(a, b),
  }[sort] ?? ((a, b) => lastValue(b) - lastValue(a) || byName(a, b));
  return matches.sort(order);
}

function showMachines() {
  const matches = selectMachines();
  const shown = matches.slice(0, rowLimit);
  placeRows(shown.map(rowOf));
  for (const machine of shown) if (machine.isVisible) updateRow(machine);
  byId("no-machines").hidden = matches.length > 0;
  setText(byId("no-machines"), machines.size ? "No machine matches the search." : `No reading yet. Each source is polled every ${overview.interval} s.`);
  byId("show-all").hidden = matches.length <= rowLimit;
  setText(byId("show-all"), `Show ${counted(matches.length - rowLimit, "more machine")}`);
  showSummary();
}

/** Put these rows into the table in this order. Rows already in place are not moved, and the focus is kept. */
function placeRows(rows) {
  const body = byId("machines").tBodies[0];
  const focused = document.activeElement;
  const kept = new Set(rows);
  for (const row of [...body.rows]) if (!kept.has(row)) row.remove();
  rows.forEach((row, place) => {
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
  if (document.activeElement !== focused && focused.isConnected) focused.focus({ preventScroll: true });
}

function showSummary() {
  const counts = new Map();
  const add = text => counts.set(text, (counts.get(text) ?? 0) + 1);
  const urgent = new Map([["with an alarm", 0], ["down", 0], ["flapping", 0]]);
  for (const { severity, isDown, isFlapping } of machines.values()) {
    add(severity);
    if (isDown) add("down");
    if (isFlapping) add("flapping");
    // A flapping source is announced as that, not each time it goes down and answers again.
    const kind = severity === SEVERITY.alarm ? "with an alarm" : isFlapping ? "flapping" : isDown ? "down" : null;
    if (kind) urgent.set(kind, urgent.get(kind) + 1);
  }
  const parts = [
    [SEVERITY.alarm, "with an alarm"], ["down", "down"], ["flapping", "flapping"], [SEVERITY.error, "in ERROR"], [SEVERITY.silent, "silent"],
    [SEVERITY.outside, "outside the band"], [SEVERITY.noNumber, "without a number"],
  ].filter(([key]) => counts.has(key)).map(([key, text]) => `${counts.get(key).toLocaleString("en")} ${text}`);
  if (machines.size && !parts.length) parts.push("no problems");
  setText(byId("summary"), [counted(machines.size, "machine"), ...parts].join(" · "));
  const announced = [...urgent].filter(([, number]) => number);
  setText(byId("announcement"), announced.map(([text, number]) => `${counted(number, "machine")} ${text}`).join(", "));
  const title = announced.map(([text, number]) => `${number} ${text}`).join(", ");
  document.title = title ? `(${title}) Machine telemetry` : "Machine telemetry";
}

// Only rows on the screen are updated: a fleet has thousands.
const rowObserver = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    const machine = machines.get(target.dataset.key);
    if (!machine) continue;
    machine.isVisible = isIntersecting;
    if (isIntersecting) updateRow(machine);
  }
}, { rootMargin: "200px" });

function rowOf(machine) {
  if (machine.row) return machine.row;
  const name = element("button", "name", element("bdi", "", plain(machine.source)));
  const top = element("div", "top", name);
  if (machine.label !== null) top.append(element("bdi", "id", `id ${plain(machine.label)}`));
  machine.statusNode = top.appendChild(element("div", ""));
  machine.faultsNode = element("div", "faults");
  const head = element("th", "", top, machine.faultsNode);
  head.scope = "row";
  machine.row = element("tr", "", head);
  machine.cells = overview.parameters.map(() => {
    const cell = element("div", "reading", element("b"), element("small"), sparkline());
    machine.row.append(element("td", "", cell));
    return cell;
  });
  machine.ageCell = machine.row.appendChild(element("td", "age"));
  machine.row.dataset.key = machine.key;
  machine.row.addEventListener("click", () => openPanel(machine));
  rowObserver.observe(machine.row);
  return machine.row;
}

function updateRow(machine) {
  machine.row.className = machine.kind;
  showStates(machine.statusNode, machine.states.filter(({ isFault }) => !isFault));
  showStates(machine.faultsNode, machine.states.filter(({ isFault }) => isFault), MAX_ROW_FAULTS);
  setText(machine.ageCell, machine.lastTime ? `${formatDuration(overview.now - machine.lastTime)} ago` : "");
  machine.cells.forEach((cell, n) => {
    const [value, average, drawing] = cell.children;
    const last = machine.trace.at(-1)?.[n + 1];
    const decimals = decimalsOf(machine.trace, n + 1);
    const isAbsent = machine.trace.every(row => row[n + 1] === null); // the machine does not have this parameter
    cell.classList.toggle("out", machine.outside[n]);
    setText(value, isAbsent ? "" : formatNumber(last, decimals) + (machine.outside[n] ? " !" : ""));
    value.title = machine.outside[n] ? "outside the band" : "";
    setText(average, isAbsent ? "" : formatNumber(machine.latest?.[`average_${overview.parameters[n]}`], averageDecimals(decimals)));
    if (machine.isRedrawNeeded) drawing.firstChild.setAttribute("d", tracePath(machine.trace, n + 1));
  });
  machine.isRedrawNeeded = false;
}

/** Show states of a machine, each on a line of its own: at most `limit`, the worst, and how many more there are. */
function showStates(node, states, limit = Infinity) {
  if (!isNewContent(node, states)) return;
  const shown = states.length > limit ? states.slice(0, limit - 1) : states;
  node.replaceChildren(...shown.map(({ kind, text }) => element("bdi", `state ${kind}`, text)));
  if (shown.length < states.length) node.append(element("bdi", "state", `and ${states.length - shown.length} more`));
}

function sparkline() {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 600 100");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  return drawing;
}

/** A trace as an SVG path that breaks at a gap; a reading between two gaps is a dot. */
function tracePath(trace, column) {
  const points = trace.filter(row => row[column] !== null);
  if (!points.length) return "";
  const values = points.map(row => row[column]);
  const end = trace.at(-1)[0];
  const duration = Math.max(1000 * overview.interval * (TRACE_LENGTH - 1), end - trace[0][0]);
  const low = Math.min(...values), high = Math.max(...values);
  const range = Math.max(high - low, 0.05 * Math.max(Math.abs(high), Math.abs(low))) || 1;
  const middle = (low + high) / 2;
  return points.map((row, i) => {
    const isJoined = i && row[0] - points[i - 1][0] <= 1000 * overview.silent_after;
    const x = 600 - 600 * (end - row[0]) / duration;
    const y = 50 - 100 * (row[column] - middle) / range;
    return `${isJoined ? "L" : "M"}${x.toFixed(0)} ${y.toFixed(0)}${isJoined ? "" : "h0"}`;
  }).join("");
}
