// The station's own state in plain words. Takes the status document, gives sentences and facts; no page.

import { ago, bytes, count, length, moment, several } from "./units.js";

const time = (text) => (text ? Date.parse(text) : null);

const DOUBTS = {
  "suspect:frozen": "The values have not moved for many readings: the sensor may be stuck",
  "suspect:stuck-humidity": "Humidity has stood at 100 % for hours while the temperature moved",
  "suspect:jump": "The last reading is further from the one before than weather goes",
  "suspect:self-heating": "The sensor is read so often that it warms itself",
};

export const doubt = (quality) => (quality ? (DOUBTS[quality] ?? quality) : null);

// One line for the whole station: { state, text, amounts }. The text is new when the state or its reason is, the
// amounts are with each reading.
export function headline({ cloud, store, sensor, outlook }, now) {
  const since = cloud.since ? ` since ${moment(time(cloud.since), now)}` : "";
  const waiting = store.pending;
  const safe = `${readings(waiting)} safe on disk`;
  const unsafe = store.inMemory > 0 ? ` ${readings(store.inMemory)} only in memory, not yet on disk.` : "";
  const refused = store.deadLetters > 0
    ? ` ${several(store.deadLetters, "reading")} ${store.deadLetters === 1 ? "was" : "were"} refused by the hub and set aside.`
    : "";
  const troubles = [];
  if (sensor.state === "failing" || sensor.state === "absent") troubles.push(`the sensor is ${sensor.state}`);
  if (store.state === "failing") troubles.push("the store fails");
  const trouble = (word) => (troubles.length ? ` ${word} ${troubles.join(" and ")}.` : "");
  const held = waiting > 0 ? ` ${safe} and will follow.` : "";
  if (cloud.state === "online" && cloud.reason) {
    // Connected, and yet the hub takes nothing: a spent quota, a throttled hub.
    const text = `Online${since}, but nothing is accepted: ${sentence(cloud.reason)}${trouble("Besides,")}`;
    return { state: "trouble", text, amounts: `${held}${unsafe}${refused}` };
  }
  if (cloud.state === "online") {
    const eta = cloud.eta ? ` All of it will be through by ${moment(time(cloud.eta), now)}.` : "";
    const all = !store.storeId ? "What waits on disk is not known."
      : refused ? `The others${unsafe ? " on disk" : ""} are with the hub.`
      : unsafe ? "Everything on disk is with the hub."
      : "Everything recorded is with the hub.";
    const sent = waiting > backlog() || isOld(store, outlook, now) ? `${safe} and on the way.${eta}` : all;
    return { state: troubles.length ? "trouble" : "online", text: `Online${since}.${trouble("But")}`, amounts: `${refused} ${sent}${unsafe}` };
  }
  const why = cloud.reason ? `: ${sentence(cloud.reason)}` : ".";
  const verb = cloud.state === "connecting" ? "Connecting" : "Offline";
  const text = `${verb}${since}${why}${trouble("Besides,")}`;
  return { state: troubles.length ? "trouble" : cloud.state, text, amounts: `${held}${unsafe}${refused}` };
}

// Whether one of the few that are on their way has been so for longer than the next ones took to come.
function isOld({ pending, oldestPendingTime }, outlook, now) {
  if (pending === 0) return false;
  const interval = outlook ? 86_400_000 / Math.min(outlook.readingsPerDay, outlook.messagesPerDay) : 0;
  // Without a time it cannot be called young.
  return !oldestPendingTime || now - time(oldestPendingTime) > Math.max(60_000, 5 * interval);
}

// "1 reading is", "2,000 readings are"
const readings = (value) => `${several(value, "reading")} ${value === 1 ? "is" : "are"}`;

// A few readings are always on their way; only more than that is a backlog.
const backlog = () => 3;

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

// Groups of facts: [title, [[name, value], ...]]; a fact without a value is left out.
export function groups(status, now) {
  const { cloud, store, sensor, identity, clock, outlook } = status;
  const at = (text) => (text ? moment(time(text), now) : null);
  const since = (text) => (text ? `${at(text)} (${ago(now - time(text))})` : null);
  return [
    ["Hub", [
      ["Link", link(cloud, at)],
      ["Why", cloud.reason],
      ["Not yet sent", store.pending ? `${several(store.pending, "reading")}, the oldest from ${at(store.oldestPendingTime) ?? "an unknown time"}` : store.inMemory || !store.storeId ? null : "Nothing"],
      ["Caught up", store.pending > backlog() ? catchUp(cloud, now) : null],
      ["Last accepted", since(cloud.lastAccepted) ?? "Nothing yet"],
      ["Sign-in", token(cloud, now)],
      ["Accepted since start", `${several(cloud.accepted, "message")} over ${several(cloud.connections, "connection")}`],
    ]],
    ["Identity", [
      ["Hub", identity.host],
      ["Device", identity.deviceId],
      ["Key", identity.source === "tpm" ? "In the TPM, which signs and never gives it out" : identity.source === "key-file" ? "In a file" : null],
      ["TPM", identity.tpm],
      ["Missing", identity.host ? null : identity.reason],
    ]],
    ["Sensor", [
      ["State", sensorState(sensor)],
      ["Chip", sensor.chip],
      ["Quality", doubt(sensor.lastReading?.quality) ?? (sensor.lastReading ? "Nothing doubtful" : null)],
      ["Read every", outlook ? length(86_400_000 / outlook.readingsPerDay) : null],
      ["Since start", `${count(sensor.taken)} taken, ${count(sensor.missed)} missed`],
      ["Punctuality", sensor.taken ? `${lateness(sensor.jitterMedian)} late as a rule, ${lateness(sensor.jitterWorst)} at worst` : null],
    ]],
    ["Store", [
      ["State", store.state === "ok" ? "Writing" : (store.reason ?? "Starting")],
      ["Recorded", `${several(store.lastSequence, "reading")}, ${bytes(store.bytes)}`],
      ["In memory only", store.inMemory ? several(store.inMemory, "reading") : null],
      ["Refused by the hub", store.deadLetters ? `${several(store.deadLetters, "reading")}, set aside` : null],
      ["Disk", outlook?.disk ? `${bytes(outlook.disk.free)} free of ${bytes(outlook.disk.size)}` : null],
      ["Written", outlook ? `About ${bytes(outlook.writtenPerDay)} a day` : null],
      ["Card life", outlook?.cardLifeYears ? cardLife(outlook.cardLifeYears) : null],
    ]],
    ["Costs", [
      ["Messages", outlook ? `${count(outlook.messagesPerDay)} a day` : null],
      ["Data", outlook ? `About ${bytes(outlook.dataPerDay)} a day` : null],
      ["Fits", outlook ? (outlook.tier === "free" ? "The free tier" : `${outlook.tier} (${count(outlook.meteredPerDay)} metered messages a day)`) : null],
    ]],
    ["Clock", [
      ["State", { synchronised: "Synchronised", plausible: "Plausible", wrong: "Wrong" }[clock.state]],
      ["Because", clock.state === "synchronised" ? null : clock.reason],
      ["Station's time", moment(now, now)],
    ]],
  ].map(([title, facts]) => [title, facts.filter(([, value]) => value)]);
}

function link(cloud, at) {
  const since = cloud.since ? ` since ${at(cloud.since)}` : "";
  const way = cloud.state !== "online" ? "" : cloud.transport === "websocket" ? ", over WebSocket" : cloud.transport === "amqp" ? ", over AMQP" : "";
  return { online: "Online", connecting: "Connecting", offline: "Offline" }[cloud.state] + since + way;
}

function catchUp(cloud, now) {
  if (cloud.state !== "online") return "Once the hub can be reached";
  if (!cloud.eta) return "Not known yet";
  return `In ${length(time(cloud.eta) - now)}, at ${moment(time(cloud.eta), now)}`;
}

function token(cloud, now) {
  if (!cloud.tokenExpires) return "No token";
  const left = time(cloud.tokenExpires) - now;
  if (left <= 0) return "The token has run out";
  const renewal = cloud.tokenRenewAt ? `Renewed at ${moment(time(cloud.tokenRenewAt), now)}, ` : "";
  return `${renewal}${renewal ? "v" : "V"}alid for ${length(left)} more`;
}

function sensorState(sensor) {
  const words = { starting: "Starting", ok: "Working", failing: "Failing", absent: "Not there" }[sensor.state];
  return sensor.state === "ok" || !sensor.reason ? words : `${words}: ${sensor.reason}`;
}

const lateness = (milliseconds) =>
  milliseconds < 1 ? "under 1 ms" : milliseconds < 1_000 ? `${Math.round(milliseconds)} ms` : length(milliseconds);

function cardLife(years) {
  if (years > 50) return "Will outlive the station";
  return years < 1 ? `About ${Math.max(1, Math.round(years * 12))} months, if it is a cheap card` : `About ${Math.round(years)} years, if it is a cheap card`;
}

// A message from the cloud, in whatever form it came: { at, text }.
export function message(received) {
  if (typeof received === "string") return { at: null, text: received };
  const text = received.body ?? received.text ?? received.data ?? received;
  return { at: time(received.time ?? received.received), text: typeof text === "string" ? text : JSON.stringify(text) };
}
