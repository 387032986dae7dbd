// The day so far and the trend, from the station's history. Knows numbers, not the page.

const HOUR = 3_600_000;

// How a quantity's trend is judged: over how long, and what counts as steady, slow and quick.
// Pressure: the words and limits of the Met Office's shipping forecast (hPa in three hours).
const TREND = {
  temperature: { over: HOUR, said: "1 h", steady: 0.3, slow: 1, quick: 3 },
  humidity: { over: HOUR, said: "1 h", steady: 2, slow: 6, quick: 15 },
  pressure: { over: 3 * HOUR, said: "3 h", steady: 0.01, slow: 0.15, quick: 0.36 },
};

const FIELD = { temperature: "Temperature", humidity: "Humidity", pressure: "Pressure" };

export class Today {
  #rows = [];
  #extremes = {};

  // Asks for everything since local midnight, and for at least what the trends need.
  async load(now) {
    const midnight = new Date(now).setHours(0, 0, 0, 0);
    const since = Math.min(midnight, now - 3.25 * HOUR);
    const query = new URLSearchParams({ since: new Date(since).toISOString(), step: "300" });
    const response = await fetch(`api/readings?${query}`);
    if (!response.ok) throw new Error(await response.text());
    // Longer than asked where nothing finer is kept.
    const { step, readings } = await response.json();
    this.#rows = readings.map((row) => ({ ...row, at: Date.parse(row.time), middle: Date.parse(row.time) + step * 500 }));
    this.#extremes = {};
    for (const row of this.#rows) {
      // A bucket that began before midnight is yesterday's.
      if (row.at < midnight) continue;
      // When in its bucket nobody knows.
      const at = Math.min(row.middle, now);
      for (const [quantity, field] of Object.entries(FIELD)) {
        this.#extend(quantity, row[`min${field}`], at);
        this.#extend(quantity, row[`max${field}`], at);
      }
    }
  }

  // Takes the last reading into the extremes of the day that is now. A new day starts empty, and stays so until one
  // was read in it.
  add(values, at, now) {
    const midnight = new Date(now).setHours(0, 0, 0, 0);
    for (const [quantity, value] of Object.entries(values)) {
      const known = this.#extremes[quantity];
      if (known && Math.min(known.min.at, known.max.at) < midnight) delete this.#extremes[quantity];
      if (Number.isFinite(value) && at >= midnight) this.#extend(quantity, value, at);
    }
  }

  // The span to open with: the hour where all that was recorded lies within an hour and a half, and shows more in it
  // than in the day; null where nothing is known of the day.
  opening(now, interval) {
    if (this.#rows.length === 0) return null;
    return interval < HOUR && now - this.#rows[0].at < 1.5 * HOUR ? "hour" : "day";
  }

  extremes(quantity) {
    return this.#extremes[quantity];
  }

  // { words, direction: -1 | 0 | 1, difference, over: "1 h" } or null while the history is too short.
  trend(quantity, value, at) {
    const { over, said, steady, slow, quick } = TREND[quantity];
    const wanted = at - over;
    let best = null;
    for (const row of this.#rows) {
      const off = Math.abs(row.middle - wanted);
      if (off <= 600_000 && (!best || off < Math.abs(best.middle - wanted))) best = row;
    }
    if (!best) return null;
    const difference = value - best[`current${FIELD[quantity]}`];
    const size = Math.abs(difference);
    const direction = size < steady ? 0 : Math.sign(difference);
    const verb = direction > 0 ? "Rising" : "Falling";
    const words = direction === 0 ? "Steady" : size < slow ? `${verb} slowly` : size < quick ? verb : `${verb} quickly`;
    return { words, direction, difference, over: said };
  }

  #extend(quantity, value, at) {
    const known = (this.#extremes[quantity] ??= { min: { value, at }, max: { value, at } });
    if (value < known.min.value) known.min = { value, at };
    if (value > known.max.value) known.max = { value, at };
  }
}
