// Quantities as people read them, in the units they chose. Knows no page.

const KNOWN = { temperature: ["C", "F"], pressure: ["hPa", "kPa", "inHg"], theme: ["auto", "light", "dark"] };

// What was chosen; the browser remembers it.
export const chosen = { temperature: "C", pressure: "hPa", theme: "auto" };

// Another program's page at the same address, localhost:8080 perhaps, may keep other things under the same names.
export function recall() {
  for (const [key, values] of Object.entries(KNOWN)) {
    try {
      const value = localStorage.getItem(key);
      if (values.includes(value)) chosen[key] = value;
    } catch {
      // A browser that keeps nothing starts with the defaults each time.
    }
  }
}

export function remember(key, value) {
  chosen[key] = value;
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds until the page is closed.
  }
}

const TEMPERATURE = {
  C: { unit: "°C", digits: 1, from: (celsius) => celsius, difference: (celsius) => celsius, least: 4 },
  F: { unit: "°F", digits: 1, from: (celsius) => celsius * 1.8 + 32, difference: (celsius) => celsius * 1.8, least: 8 },
};

// The station speaks kilopascal.
const PRESSURE = {
  hPa: { unit: "hPa", digits: 1, factor: 10, least: 10 },
  kPa: { unit: "kPa", digits: 2, factor: 1, least: 1 },
  inHg: { unit: "inHg", digits: 2, factor: 0.295299831, least: 0.3 },
};

// How to show a quantity: its unit, its digits, how to convert a value and a difference of two,
// and the least height of a chart's scale, so that a calm day does not look wild.
export function scale(quantity) {
  if (quantity === "temperature") return TEMPERATURE[chosen.temperature] ?? TEMPERATURE.C;
  if (quantity === "humidity") {
    return { unit: "%", digits: 0, from: (percent) => percent, difference: (percent) => percent, least: 20 };
  }
  const { factor, ...rest } = PRESSURE[chosen.pressure] ?? PRESSURE.hPa;
  const times = (kilopascal) => kilopascal * factor;
  return { ...rest, from: times, difference: times };
}

// "−4.2": a real minus sign, and never "−0.0".
export function number(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

export function shown(quantity, value) {
  const { from, digits } = scale(quantity);
  return number(from(value), digits);
}

export function withUnit(quantity, value) {
  const { unit } = scale(quantity);
  return `${shown(quantity, value)}${unit === "%" ? " %" : ` ${unit}`}`;
}

export function change(quantity, difference) {
  const { difference: convert, digits, unit } = scale(quantity);
  return `${number(Math.abs(convert(difference)), digits)}${unit === "%" ? " %" : ` ${unit}`}`;
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat([], { weekday: "short", day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat([], { day: "numeric", month: "short", year: "numeric" });

export const atClock = (time) => clock.format(time);

// "09:12", "Mon 23 Nov, 09:12" or "23 Nov 2025": as much as is needed from `now`.
export function moment(time, now) {
  const sameDay = new Date(time).toDateString() === new Date(now).toDateString();
  if (sameDay) return clock.format(time);
  if (Math.abs(now - time) < 300 * 86_400_000) return `${day.format(time)}, ${clock.format(time)}`;
  return dayOfYear.format(time);
}

// "8 seconds", "3 minutes", "2 hours", "5 days".
export function length(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const [count, unit] =
    seconds < 100 ? [seconds, "second"]
    : seconds < 5_400 ? [Math.round(seconds / 60), "minute"]
    : seconds < 172_800 ? [Math.round(seconds / 3_600), "hour"]
    : [Math.round(seconds / 86_400), "day"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

// "just now", "8 seconds ago"
export const ago = (milliseconds) => (milliseconds < 1_000 ? "just now" : `${length(milliseconds)} ago`);

export const count = (value) => new Intl.NumberFormat("en").format(Math.round(value));

// "1 message", "2,000 messages"
export const several = (value, name) => `${count(value)} ${name}${Math.round(value) === 1 ? "" : "s"}`;

// "3.4 MB"
export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${step > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

// The ends of the vertical scale: never so narrow that calm weather looks wild, humidity never outside 0 to 100.
export function spread(quantity, low, high) {
  if (low === null) return [0, 1];
  const { least } = scale(quantity);
  const missing = Math.max(0, least - (high - low)) / 2;
  const margin = (high - low) * 0.06 + missing;
  if (quantity !== "humidity") return [low - margin, high + margin];
  return [Math.max(0, low - margin), Math.min(100, high + margin)];
}

// As many digits as the ticks need.
export function labels(ticks) {
  const whole = (power) => ticks.every((tick) => Math.abs(tick * power - Math.round(tick * power)) < 1e-6 * power);
  const needed = whole(1) ? 0 : whole(10) ? 1 : 2;
  return ticks.map((tick) => number(tick, needed));
}

// The labels of a time axis that is this long: each is given once.
export function times(ticks, milliseconds) {
  const days = milliseconds / 86_400_000;
  const format = days <= 1 ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
    : days <= 7 ? { weekday: "short" }
    : days <= 31 ? { day: "numeric", month: "short" }
    : { month: "short" };
  const formatter = new Intl.DateTimeFormat([], format);
  let last = "";
  return ticks.map((tick) => {
    const text = formatter.format(tick * 1000);
    if (text === last) return "";
    last = text;
    return text;
  });
}

// What a vertical scale takes: its widest label and what is left free on both sides of it.
export function room(font, texts) {
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = font;
  return Math.max(50, ...(texts ?? []).map((text) => Math.ceil(ruler.measureText(text).width) + 9));
}
