// The console's table: a row for each machine, the worst first. The state and constants are those of console.js.
"use strict";

function addColumns() {
  overview.parameters.forEach((parameter, n) => {
    const details = element("small", "", `latest · average of ${overview.window}`);
    const head = element("th", "", element("bdi", "parameter", plain(parameter)), " ", details);
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
  const byName = (a, b) => collator.compare(a.source, b.source) || collator.compare(a.label ?? "", b.label ?? "");
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
  const count = severity => [...machines.values()].filter(machine => machine.severity === severity).length;
  const alarms = count(SEVERITY.alarm);
  const down = [...machines.values()].filter(machine => machine.isDown).length;
  const parts = [
    [alarms, "with an alarm"], [down, "down"], [count(SEVERITY.error), "in ERROR"], [count(SEVERITY.silent), "silent"], [count(SEVERITY.outside), "outside the band"],
    [count(SEVERITY.noNumber), "without a number"],
  ].filter(([number]) => number).map(([number, text]) => `${number.toLocaleString("en")} ${text}`);
  if (machines.size && !parts.length) parts.push("no problems");
  setText(byId("summary"), [counted(machines.size, "machine"), ...parts].join(" · "));
  const urgent = [[alarms, "with an alarm"], [down, "down"]].filter(([number]) => number);
  setText(byId("announcement"), urgent.map(([number, text]) => `${counted(number, "machine")} ${text}`).join(", "));
  const title = urgent.map(([number, text]) => `${number} ${text}`).join(", ");
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
  const head = element("th", "", name);
  head.scope = "row";
  if (machine.label !== null) head.append(element("bdi", "id", `id ${plain(machine.label)}`));
  machine.stateNode = head.appendChild(element("bdi", "state"));
  machine.row = element("tr", "", head);
  machine.cells = overview.parameters.map(() => {
    const cell = element("div", "reading", element("b"), element("small"), sparkline());
    machine.row.append(element("td", "", cell));
    return cell;
  });
  machine.ageCell = machine.row.appendChild(element("td", "age"));
  machine.row.dataset.key = machine.key;
  machine.row.addEventListener("click", () => openDialog(machine.key));
  rowObserver.observe(machine.row);
  return machine.row;
}

function updateRow(machine) {
  machine.row.className = machine.kind;
  machine.stateNode.className = `state ${machine.kind}`;
  setText(machine.stateNode, machine.state);
  setText(machine.ageCell, machine.lastTime ? `${formatDuration(overview.now - machine.lastTime)} ago` : "");
  machine.cells.forEach((cell, n) => {
    const [value, average, drawing] = cell.children;
    cell.classList.toggle("out", machine.outside[n]);
    setText(value, formatNumber(machine.trace.at(-1)?.[n + 1]) + (machine.outside[n] ? " !" : ""));
    value.title = machine.outside[n] ? "outside the band" : "";
    setText(average, formatNumber(machine.latest?.[`average_${overview.parameters[n]}`]));
    if (machine.isRedrawNeeded) drawing.firstChild.setAttribute("d", tracePath(machine.trace, n + 1));
  });
  machine.isRedrawNeeded = false;
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
