// Numbers, times and elements as the console shows them. Text that a machine or a source sends is inserted as text, never as markup.
"use strict";

const MAX_NAME_CHARACTERS = 100;
const MAX_REASON_CHARACTERS = 1000;
const NO_VALUE = "–";
const TRACE_DIGITS = 6; // of each value in a trace
const MAX_PLACES = 9; // a number with more decimal places, or a larger one, has three digits and an exponent
const MAX_FIXED = 1e7;

const byId = id => document.getElementById(id);
const collator = new Intl.Collator("en", { numeric: true });

function plain(value, limit = MAX_NAME_CHARACTERS) {
  const text = String(value).replace(/\p{C}/gu, "\ufffd");
  return text.length > limit ? text.slice(0, limit - 1) + "…" : text;
}

/**
 * The decimal places that the sensor of a column resolves, by the rule of etl/readings/digits.py. Fewer digits than a trace has are those of
 * the sensor, of which one reading of twenty may have more; else at most a thousandth of the range of the readings is shown.
 */
function decimalsOf(trace, column) {
  const values = trace.map(row => row[column]).filter(value => value !== null);
  if (!values.length) return 0;
  const places = values.map(placesOf).sort((a, b) => a - b)[Math.ceil(0.95 * (values.length - 1))];
  const low = Math.min(...values), high = Math.max(...values);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const wholeDigits = largest ? Math.floor(Math.log10(largest)) + 1 : 0;
  if (places + wholeDigits < TRACE_DIGITS) return places;
  const needed = TRACE_DIGITS - wholeDigits;
  return Math.max(0, high > low ? Math.min(needed, -Math.floor(Math.log10((high - low) / 1000))) : needed);
}

function placesOf(value) {
  const [mantissa, exponent = 0] = String(Number(value.toPrecision(TRACE_DIGITS))).split("e");
  return Math.max(0, (mantissa.split(".")[1] ?? "").length - exponent);
}

/** The decimal places of an average of readings with so many: one more, up to two, as a mean resolves finer. */
const averageDecimals = places => Math.max(places, Math.min(places + 1, 2));

function formatNumber(value, places) {
  if (value === null || value === undefined) return NO_VALUE;
  if (places > MAX_PLACES || Math.abs(value) >= MAX_FIXED) return value.toPrecision(3);
  const text = value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}

/** A formatted number with the unit of its parameter, which never stands on the next line. */
function withUnit(text, parameter) {
  const unit = overview.units[parameter];
  return unit && text !== NO_VALUE ? `${text}\u00a0${unit}` : text;
}

function formatDuration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

let timeFormats = {}; // a format takes longer to build than a thousand times to print

/** A time in the configured zone, with its date if that is not today. */
function formatTime(milliseconds) {
  const timeZone = overview.timezone;
  if (timeFormats.timeZone !== timeZone)
    timeFormats = {
      timeZone, date: new Intl.DateTimeFormat("en-CA", { timeZone }), time: new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "medium" }),
    };
  const time = timeFormats.time.format(milliseconds);
  const date = timeFormats.date.format(milliseconds);
  return date === timeFormats.date.format(overview.now) ? time : `${date} ${time}`;
}

/** A timestamp of the process, as `formatTime` shows it; unchanged if it is none. */
function formatTimestamp(timestamp) {
  const milliseconds = Date.parse(timestamp);
  return Number.isNaN(milliseconds) ? plain(timestamp) : formatTime(milliseconds);
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function element(name, className, ...content) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

function linkTo(address, ...content) {
  const link = element("a", "", ...content);
  link.href = address;
  return link;
}

/** Set the text of a node only if it changes, so that a screen reader does not repeat it. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Replace what a node shows if `content`, any JSON value, differs from what it shows. Returns whether it did. */
function isNewContent(node, content) {
  const text = JSON.stringify(content);
  if (node.shownContent === text) return false;
  node.shownContent = text;
  return true;
}
