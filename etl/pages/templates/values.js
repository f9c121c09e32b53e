// The values of every chart on a page, at the pointer, by keyboard, and at the time that #at= names (seconds since the epoch).
// A chart that can show them is a slider for screen readers, which say the chosen time and its values.
"use strict";

(() => {
  const PAGE_KEY_SHARE = 0.05; // of the points of a chart, that PageUp and PageDown step over
  const REACH_SHARE = 0.01; // of a chart's range: in a gap, a point so near is shown
  const views = new WeakMap(); // by chart: its decoded data, and the nodes that show a value
  let used = null; // the chart in use: {chart, place: its number on the page, time, isFocused}
  let pinned = Number.NaN; // the time that the address of the page names

  /** A trace: its decimal places, times (seconds since the epoch), values, and the numbers of the points before which is a gap. */
  function decode(text, start, tick) {
    const trace = { places: 0, times: [], values: [], gaps: new Set() };
    if (!text) return trace;
    const space = text.indexOf(" ");
    trace.places = Number(text.slice(0, space));
    let time = 0, value = 0;
    for (const segment of text.slice(space + 1).split(";")) {
      trace.gaps.add(trace.times.length);
      const numbers = segment.match(/-?\d+/g).map(Number);
      for (let n = 0; n < numbers.length; n += 2) {
        trace.times.push(start + (time += numbers[n]) * tick);
        trace.values.push((value += numbers[n + 1]) / 10 ** trace.places);
      }
    }
    return trace;
  }

  function viewOf(chart) {
    let view = views.get(chart);
    if (view) return view;
    const { start, end, tick, low, high, unit, zone, readings, averages } = chart.dataset;
    view = { start: Number(start), end: Number(end), low: Number(low), high: Number(high), unit, drawing: chart.querySelector(".plot svg") };
    view.readings = decode(readings, view.start, Number(tick));
    view.averages = decode(averages, view.start, Number(tick));
    view.formatTime = timeFormat(zone, view);
    views.set(chart, view);
    return view;
  }

  /** A function from a time to its text in a zone, with the date if that is not the last one of the chart. */
  function timeFormat(zone, { end, readings: { times } }) {
    let timeZone = zone;
    try { new Intl.DateTimeFormat("en", { timeZone }); } catch { timeZone = "UTC"; }
    const hasFractions = times.length > 1 && (times.at(-1) - times[0]) / (times.length - 1) < 1;
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", ...(hasFractions && { fractionalSecondDigits: 3 }) };
    const times24 = new Intl.DateTimeFormat("en-GB", { timeZone, ...clock });
    const dates = new Intl.DateTimeFormat("en-CA", { timeZone, year: "numeric", month: "2-digit", day: "2-digit" });
    const lastDate = dates.format(1000 * end - 1);
    return time => {
      const date = dates.format(1000 * time);
      return `${date === lastDate ? "" : `${date} `}${times24.format(1000 * time)}${timeZone === zone ? "" : " UTC"}`;
    };
  }

  /** The number of the point of a trace that is nearest to a time; -1 where the time is in a gap. */
  function nearest({ times, gaps }, time, reach) {
    let low = 0, high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1;
      else high = middle;
    }
    const before = low - 1;
    const point = low === times.length || (before >= 0 && time - times[before] < times[low] - time) ? before : low;
    const isBetween = before >= 0 && low < times.length && !gaps.has(low);
    return isBetween || Math.abs(times[point] - time) <= reach ? point : -1;
  }

  function valueText({ places, values }, point, unit) {
    const text = values[point].toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
    return unit ? `${text}\u00a0${unit}` : text;
  }

  /** What is shown at a time: the point of the readings, and the texts, of which the first is the time. */
  function contentAt(view, time) {
    const reach = REACH_SHARE * (view.end - view.start);
    const point = nearest(view.readings, time, reach);
    if (point < 0) return { point, texts: [view.formatTime(time), "no readings"] };
    const at = view.readings.times[point];
    const texts = [view.formatTime(at), valueText(view.readings, point, view.unit)];
    const average = nearest(view.averages, at, reach);
    if (average >= 0) {
      const averageAt = view.averages.times[average]; // another time where the traces are thinned
      const suffix = Math.abs(averageAt - at) < 1 ? "" : ` at ${view.formatTime(averageAt)}`;
      texts.push(`moving average ${valueText(view.averages, average, view.unit)}${suffix}`);
    }
    return { point, texts };
  }

  function addNodes(chart, view) {
    view.readout = document.createElement("div");
    view.readout.className = "readout";
    view.readout.ariaHidden = "true";
    chart.append(view.readout);
    [view.line, view.point] = ["cursor", "point"].map(name => {
      const path = view.drawing.querySelector("path").cloneNode();
      path.setAttribute("class", name);
      path.removeAttribute("d");
      view.drawing.append(path);
      return path;
    });
  }

  function show(chart, time) {
    const view = viewOf(chart);
    if (!view.readout) addNodes(chart, view);
    const { point, texts } = contentAt(view, time);
    const { times, values } = view.readings;
    const share = Math.min(1, Math.max(0, ((point < 0 ? time : times[point]) - view.start) / (view.end - view.start)));
    const { width, height } = view.drawing.viewBox.baseVal;
    const x = (share * width).toFixed(1);
    view.line.setAttribute("d", `M${x} 0V${height}`);
    view.point.setAttribute("d", point < 0 ? "" : `M${x} ${((view.high - values[point]) / (view.high - view.low) * height).toFixed(1)}h0`);
    view.readout.replaceChildren(...texts.map(text => Object.assign(document.createElement("span"), { textContent: text })));
    const plot = view.drawing.getBoundingClientRect(), box = chart.getBoundingClientRect();
    const left = 100 * (plot.left - box.left + share * plot.width) / box.width;
    const isRight = share > 0.5; // the text is on the side with more space
    view.readout.style.left = isRight ? "auto" : `${left}%`;
    view.readout.style.right = isRight ? `${100 - left}%` : "auto";
    describe(chart, texts, Math.max(point, 0));
  }

  function describe(chart, texts, point) {
    chart.setAttribute("aria-valuenow", point);
    chart.setAttribute("aria-valuetext", texts.join(", "));
  }

  function hide(chart) {
    const view = views.get(chart);
    if (!view?.readout) return;
    for (const name of ["readout", "line", "point"]) {
      view[name].remove();
      view[name] = null;
    }
  }

  /** Hide the values of the chart in use, or show those of the time in the address again. */
  function release() {
    if (!used) return;
    const { chart } = used;
    used = null;
    if (!isWithin(chart, pinned)) hide(chart);
    else show(chart, pinned);
  }

  function use(chart, time, isFocused) {
    if (used && used.chart !== chart) release();
    used = { chart, place: allCharts().indexOf(chart), time, isFocused };
    show(chart, time);
  }

  const allCharts = () => [...document.querySelectorAll(".chart")];
  const chartOf = target => target.closest?.(".chart[data-readings]");

  function isWithin(chart, time) {
    const { start, end } = chart.dataset;
    return Number(start) <= time && time <= Number(end);
  }

  /** Prepare the charts that are new on the page; one that replaces the chart in use shows the same time. */
  function prepare() {
    for (const chart of document.querySelectorAll(".chart[data-readings]:not([tabindex])")) {
      const { times } = viewOf(chart).readings;
      chart.tabIndex = 0;
      chart.setAttribute("role", "slider");
      chart.setAttribute("aria-valuemin", 0);
      chart.setAttribute("aria-valuemax", times.length - 1);
      describe(chart, contentAt(viewOf(chart), times.at(-1)).texts, times.length - 1);
      if (isWithin(chart, pinned)) show(chart, pinned);
    }
    if (!used || used.chart.isConnected) return;
    const { place, time, isFocused } = used, chart = allCharts()[place];
    if (!chart?.dataset.readings) return;
    used = null;
    if (isFocused) chart.focus({ preventScroll: true });
    use(chart, time, isFocused);
  }

  function pin() {
    const text = new URLSearchParams(location.hash.slice(1)).get("at");
    pinned = text ? Number(text) : Number.NaN;
    const charts = allCharts().filter(chart => chart.dataset.readings), chosen = charts.filter(chart => isWithin(chart, pinned));
    charts.forEach(hide);
    chosen.forEach(chart => show(chart, pinned));
    chosen[0]?.scrollIntoView({ block: "nearest" });
  }

  function usePointer(event) {
    const chart = chartOf(event.target);
    if (!chart) {
      if (!used?.isFocused) release();
      return;
    }
    const { start, end, drawing } = viewOf(chart);
    const { left, width } = drawing.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    use(chart, start + share * (end - start), false);
  }

  function useKey(event) {
    const chart = chartOf(event.target);
    if (!chart || event.altKey || event.ctrlKey || event.metaKey) return;
    const { readings } = viewOf(chart), last = readings.times.length - 1;
    const page = Math.max(1, Math.round(PAGE_KEY_SHARE * last));
    const from = used?.chart === chart ? Math.max(0, nearest(readings, used.time, Infinity)) : last;
    const to = {
      ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1,
      PageDown: from - page, PageUp: from + page, Home: 0, End: last,
    }[event.key];
    if (to !== undefined) {
      use(chart, readings.times[Math.min(last, Math.max(0, to))], true);
    } else {
      if (event.key !== "Escape" || !views.get(chart).readout) return;
      used = null;
      hide(chart);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  function useFocus(event) {
    const chart = chartOf(event.target);
    if (!chart?.matches(":focus-visible") || used?.chart === chart) return;
    use(chart, isWithin(chart, pinned) ? pinned : viewOf(chart).readings.times.at(-1), true);
  }

  function releaseUnfocused() {
    if (used?.isFocused && document.activeElement !== used.chart) release();
  }

  document.addEventListener("pointermove", usePointer);
  document.addEventListener("pointerdown", usePointer);
  document.addEventListener("keydown", useKey);
  document.addEventListener("focusin", useFocus);
  document.addEventListener("focusout", () => setTimeout(releaseUnfocused)); // later: a chart that replaces the focused one is focused first
  document.documentElement.addEventListener("pointerleave", event => { if (event.pointerType === "mouse" && !used?.isFocused) release(); });
  addEventListener("hashchange", pin);
  new MutationObserver(prepare).observe(document, { childList: true, subtree: true });
  prepare();
  pin();
  if (location.protocol === "file:") for (const link of document.querySelectorAll("a.served")) link.replaceWith(...link.childNodes);
})();
