// The page: takes the live stream, puts values and words where they belong. The only file that knows the HTML.

import { Charts } from "./charts.js";
import { Stream } from "./stream.js";
import { Today } from "./today.js";
import * as units from "./units.js";
import { doubt, groups, headline, message } from "./words.js";

const QUANTITIES = ["temperature", "humidity", "pressure"];
const byId = (id) => document.getElementById(id);

const today = new Today();
const charts = new Charts(showPointed);
// For tests: what is drawn, as numbers.
window.weatherStation = { charts };
let status = null;
// Station's clock minus this browser's.
let ahead = 0;
// For how long nothing has come from the station, once that is too long.
let silence = null;
// Chosen at the first load.
let span = null;
let shownFacts = "";
// Asks once more for a history that could not be read.
let again;

const now = () => Date.now() + ahead;
const interval = () => (status?.outlook ? 86_400_000 / status.outlook.readingsPerDay : 60_000);

// --- the live stream ---

const stream = new Stream((document) => {
  const first = status === null;
  status = document;
  ahead = Date.parse(status.time) - Date.now();
  take();
  show();
  if (first) refresh();
});

// A hidden page gives its place in the stream to others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return stream.close();
  stream.resume();
  refresh();
});

// --- values ---

// A live reading goes into the day's extremes and onto the end of the chart.
function take() {
  const values = readingValues();
  if (!values) return;
  const at = Date.parse(status.sensor.lastReading.time);
  today.add(values, at, now());
  const { temperature, humidity, pressure } = values;
  const spread = { minTemperature: temperature, maxTemperature: temperature, minHumidity: humidity };
  Object.assign(spread, { maxHumidity: humidity, minPressure: pressure, maxPressure: pressure });
  charts.add({ ...status.sensor.lastReading, ...spread, at }, now());
}

function readingValues() {
  const reading = status?.sensor.lastReading;
  if (!reading) return null;
  return {
    temperature: reading.currentTemperature,
    humidity: reading.currentHumidity,
    pressure: reading.currentPressure,
  };
}

function show() {
  if (!status) return;
  const values = readingValues();
  byId("board").toggleAttribute("data-waiting", !values);
  for (const quantity of QUANTITIES) values ? showQuantity(quantity, values[quantity]) : showNothing(quantity);
  showAlso();
  showAge();
  showState();
}

// Pressure is shown at sea level where the station knows its altitude, like any forecast.
function lift() {
  const reading = status.sensor.lastReading;
  return reading.seaLevelPressure ? reading.seaLevelPressure / reading.currentPressure : 1;
}

function showQuantity(quantity, value) {
  const section = document.querySelector(`[data-quantity=${quantity}]`);
  const factor = quantity === "pressure" ? lift() : 1;
  const text = units.shown(quantity, value * factor);
  section.querySelector("[data-value]").textContent = text;
  section.querySelector(".figures").toggleAttribute("data-long", text.length > 4);
  section.querySelector("[data-unit]").textContent = units.scale(quantity).unit;
  showDay(section.querySelector("[data-day]"), quantity, value, factor);
  const trend = today.trend(quantity, value, Date.parse(status.sensor.lastReading.time));
  const arrow = section.querySelector("[data-arrow]");
  arrow.dataset.direction = trend ? String(trend.direction) : "";
  section.querySelector("[data-trend]").textContent = trend
    ? `${trend.words}${trend.direction ? `, ${units.change(quantity, trend.difference)}` : ""} in ${trend.over}`
    : "No trend yet";
}

// A station that was started again has no reading yet: those from before would look like the weather of now.
function showNothing(quantity) {
  const section = document.querySelector(`[data-quantity=${quantity}]`);
  section.querySelector("[data-value]").textContent = "–";
  section.querySelector("[data-day]").hidden = true;
  section.querySelector("[data-arrow]").dataset.direction = "";
  section.querySelector("[data-trend]").textContent = "";
}

function showDay(place, quantity, value, factor) {
  const extremes = today.extremes(quantity);
  place.hidden = !extremes;
  if (!extremes) return;
  const { min, max } = extremes;
  const width = max.value - min.value;
  const part = width > 0 ? Math.min(1, Math.max(0, (value - min.value) / width)) : 0.5;
  place.querySelector("i").style.setProperty("--at", String(part));
  label(place.querySelector(".low"), "Lowest today", units.shown(quantity, min.value * factor), min.at);
  label(place.querySelector(".high"), "Highest today", units.shown(quantity, max.value * factor), max.at);
}

function label(place, words, value, at) {
  const name = document.createElement("span");
  name.className = "hidden";
  name.textContent = `${words} `;
  const time = document.createElement("small");
  time.textContent = units.atClock(at);
  place.replaceChildren(name, `${value} `, time);
}

function showAlso() {
  const reading = status.sensor.lastReading;
  byId("dew-point").textContent =
    reading?.dewPoint === undefined ? "" : `Dew point ${units.withUnit("temperature", reading.dewPoint)}`;
  byId("station-pressure").textContent = reading?.seaLevelPressure
    ? `At sea level; ${units.withUnit("pressure", reading.currentPressure)} here`
    : reading ? "At the barometer" : "";
  const place = document.querySelector("[data-quantity=temperature] [data-doubt]");
  const text = doubt(reading?.quality);
  place.hidden = !text;
  place.textContent = text ? `${text}.` : "";
}

function showAge() {
  const reading = status?.sensor.lastReading;
  const age = reading ? now() - Date.parse(reading.time) : 0;
  byId("age").textContent = reading ? `Read ${units.ago(age)}` : "Waiting for the first reading";
  byId("age").toggleAttribute("data-old", age > Math.max(3 * interval(), 10_000));
  showSilence();
}

function showSilence() {
  silence = stream.silence();
  byId("lost").hidden = !silence;
  // The reason is read out, once; for how long it has been so is not.
  write(byId("lost-why"), !silence ? ""
    : silence.refusal ? `The station refuses this page: ${silence.refusal}.`
    : "The page has lost the station. It keeps trying.");
  if (!silence) return;
  byId("lost-for").textContent = `Nothing heard for ${units.length(silence.length)}.`;
  showLamps("unknown", "Unknown");
}

function showLamps(state, brief) {
  for (const lamp of document.querySelectorAll("[data-lamp]")) lamp.dataset.state = state;
  byId("brief").textContent = brief;
}

// Written only when it changes: a screen reader reads it out then.
function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// --- the station's own state ---

function showState() {
  const { state, text, amounts } = headline(status, now());
  if (!silence) showLamps(state, state === "trouble" ? "Trouble" : text.split(/[ :.]/, 1)[0]);
  write(byId("told"), text);
  write(byId("amounts"), amounts);
  byId("name").textContent = status.identity.deviceId ?? "Weather station";
  byId("version").textContent = `Weather station ${status.version}`;
  const facts = groups(status, now());
  const written = JSON.stringify(facts);
  // Only what is new is written, so that nobody loses the text that they were marking.
  if (written !== shownFacts) byId("groups").replaceChildren(...facts.map(group));
  shownFacts = written;
  const messages = status.cloud.messages ?? [];
  byId("messages").hidden = messages.length === 0;
  byId("messages").querySelector("ol").replaceChildren(...messages.map((received) => {
    const { at, text: said } = message(received);
    const item = document.createElement("li");
    item.textContent = said;
    if (at) item.append(" ", Object.assign(document.createElement("small"), { textContent: units.moment(at, now()) }));
    return item;
  }));
}

function group([title, facts]) {
  const section = document.createElement("section");
  section.append(Object.assign(document.createElement("h3"), { textContent: title }));
  const list = document.createElement("dl");
  for (const [name, value] of facts) {
    const row = document.createElement("div");
    row.append(
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    );
    list.append(row);
  }
  section.append(list);
  return section;
}

// --- history ---

async function refresh() {
  clearTimeout(again);
  if (!status || document.hidden) return;
  const asked = span;
  try {
    await today.load(now());
    const opening = span ?? today.opening(now(), interval()) ?? (await charts.shortest(now()));
    span ??= opening;
    document.querySelector(`#spans input[value=${span}]`).checked = true;
    await charts.load(span, now(), interval());
    take();
    if (byId("table").open) fillTable();
    show();
  } catch (error) {
    // An answer that nobody waits for any more.
    if (asked !== null && asked !== span) return;
    charts.fail(span ?? "day", error.message.trim());
    again = setTimeout(refresh, 30_000);
  }
}

function showPointed(point) {
  byId("pointed").textContent = point
    ? `${units.moment(point.at, now())}: ${point.texts.map(([, text]) => text).join(", ")}`
    : "";
}

// At most some fifty rows, newest first: a table is for reading.
function fillTable() {
  const every = Math.ceil(charts.rows.length / 50) || 1;
  const rows = charts.rows.filter((_, index) => (charts.rows.length - 1 - index) % every === 0).reverse();
  byId("table").querySelector("tbody").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    line.append(Object.assign(document.createElement("th"), { scope: "row", textContent: units.moment(row.at, now()) }));
    for (const text of [
      units.withUnit("temperature", row.currentTemperature),
      units.withUnit("humidity", row.currentHumidity),
      units.withUnit("pressure", row.seaLevelPressure ?? row.currentPressure),
    ]) line.append(Object.assign(document.createElement("td"), { textContent: text }));
    return line;
  }));
}

byId("table").addEventListener("toggle", () => byId("table").open && fillTable());

// --- choices ---

function applyTheme() {
  if (units.chosen.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = units.chosen.theme;
}

byId("choices").addEventListener("change", ({ target }) => {
  units.remember(target.name, target.value);
  applyTheme();
  show();
  charts.draw();
  if (byId("table").open) fillTable();
});

byId("spans").addEventListener("change", ({ target }) => {
  span = target.value;
  refresh();
});

for (const form of [byId("choices"), byId("spans")]) form.addEventListener("submit", (event) => event.preventDefault());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.draw());

units.recall();
for (const key of ["temperature", "pressure", "theme"]) {
  const choice = document.querySelector(`#choices input[name=${key}][value="${units.chosen[key]}"]`);
  if (choice) choice.checked = true;
}
applyTheme();
// Without the font the numbers would jump when it arrives.
document.fonts.ready.then(() => charts.draw());
stream.open();
setInterval(showAge, 1_000);
// The hour moves visibly within a minute, the rest need not be asked for so often.
setInterval(() => span === "hour" && refresh(), 30_000);
setInterval(refresh, 300_000);
// The page has started: see too-old.js.
byId("too-old").remove();
