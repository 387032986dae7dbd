// The three charts: one trace each, on one time axis, with one pointer for mouse, touch and keyboard.
// Drawn by uPlot; knows readings and colours, not the station's state.

import { labels, moment, room, scale, shown, spread, times, withUnit } from "./units.js";

const HOUR = 3_600_000;
// A station that was started just now shows its few minutes across the whole hour's chart.
const LEAST = 180_000;
// How long each span is, and the seconds in one point.
const SPANS = {
  hour: { length: HOUR, step: 10, words: "last hour" },
  day: { length: 24 * HOUR, step: 300, words: "last day" },
  week: { length: 7 * 24 * HOUR, step: 1_800, words: "last week" },
  month: { length: 30 * 24 * HOUR, step: 7_200, words: "last month" },
  year: { length: 365 * 24 * HOUR, step: 86_400, words: "last year" },
};
// Steps of the vertical scales that people count in.
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
const FIELD = { temperature: "Temperature", humidity: "Humidity", pressure: "Pressure" };
const QUANTITIES = Object.keys(FIELD);

// Where a line has no length: values with nothing on both sides. They are drawn as points; so are the first two.
const lone = (column) => [...column.keys()].filter((index) =>
  column[index] !== null && (column.length < 3 || ((column[index - 1] ?? null) === null && (column[index + 1] ?? null) === null)));

export class Charts {
  #span = "day";
  #rows = [];
  // What stands in the place of charts that have nothing to draw.
  #nothing = "Asking for the history";
  // The span of the rows, and the loads that have failed since.
  #loaded = null;
  #failures = 0;
  #range = [0, 1];
  #plots = {};
  #pointed = null;
  #most = HOUR;
  #onPoint;
  #seaLevel = false;

  constructor(onPoint) {
    this.#onPoint = onPoint;
    for (const quantity of QUANTITIES) this.#listen(quantity);
    new ResizeObserver(() => this.#resize()).observe(document.getElementById("board"));
  }

  get rows() {
    return this.#rows;
  }

  get words() {
    return SPANS[this.#span].words;
  }

  // Fetches the span and draws it. `interval`: milliseconds between two readings, to tell a hole from a step.
  async load(span, now, interval) {
    this.#span = span;
    // The step may be longer than the span's, where nothing finer is kept.
    const { step, readings } = await this.#ask(span, now);
    if (span !== this.#span) return;
    this.#failures = 0;
    this.#loaded = span;
    this.#seaLevel = readings.some((row) => row.seaLevelPressure !== undefined);
    this.#rows = readings.map((row) => ({ ...row, at: Math.min(Date.parse(row.time) + step * 500, now) }));
    this.#nothing = `Nothing recorded in the ${this.words}.`;
    this.#most = Math.max(2.5 * step * 1000, 3.5 * interval);
    this.#arrange(now);
    this.draw();
  }

  // The shortest span that has something to draw; the hour, which fills first, where none has.
  async shortest(now) {
    for (const span of Object.keys(SPANS)) if ((await this.#ask(span, now)).readings.length > 0) return span;
    return "hour";
  }

  async #ask(span, now) {
    const { length, step } = SPANS[span];
    const [since, until] = [now - length, now].map((time) => new Date(time).toISOString());
    const response = await fetch(`api/readings?${new URLSearchParams({ since, until, step })}`);
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  }

  // Says why there is nothing to draw, until the next load. What is drawn stays over one failure, as when the station
  // is started again, where it is of the span that was asked for.
  fail(span, reason) {
    this.#failures += 1;
    if (this.#failures === 1 && span === this.#loaded && this.#rows.length > 0) return;
    this.#span = span;
    this.#rows = [];
    this.#nothing = `The history cannot be read: ${reason}`;
    this.draw();
  }

  // Puts a live reading at the end of the hour's chart; the longer spans wait for the next load.
  add(row, now) {
    if (this.#span !== "hour" || this.#rows.length === 0 || row.at <= this.#rows.at(-1).at) return;
    this.#rows = this.#rows.filter(({ at }) => at > now - HOUR);
    this.#rows.push(row);
    this.#arrange(now);
    for (const quantity of QUANTITIES) {
      this.#plots[quantity]?.setData(this.columns(quantity));
      this.#figure(quantity).setAttribute("aria-label", this.#summary(quantity));
    }
    if (this.#pointed !== null) this.point(this.#pointed);
  }

  // Draws what is there again: other units, other colours.
  draw() {
    for (const quantity of QUANTITIES) this.#draw(quantity);
    this.point(this.#pointed);
  }

  // Marks the point with this index in all charts; null takes the mark away.
  point(index) {
    const row = index === null ? undefined : this.#rows[index];
    this.#pointed = row ? index : null;
    for (const [quantity, plot] of Object.entries(this.#plots)) {
      const left = row ? plot.valToPos(row.at / 1000, "x") : -10;
      const top = row ? plot.valToPos(this.#values(quantity, row).mean, "y") : -10;
      plot.setCursor({ left, top }, false);
    }
    this.#onPoint(row && {
      at: row.at,
      texts: QUANTITIES.map((quantity) => [FIELD[quantity], this.#text(quantity, row)]),
    });
  }

  // The value of a row, with its spread where it has one.
  #text(quantity, row) {
    const { raw } = this.#values(quantity, row);
    const mean = withUnit(quantity, raw.mean);
    const [low, high] = [shown(quantity, raw.min), shown(quantity, raw.max)];
    return low === high ? mean : `${mean} (${low} to ${high})`;
  }

  // Pressure is shown at sea level where the station knows its altitude: the spread is moved with the mean.
  #values(quantity, row) {
    const field = FIELD[quantity];
    let [mean, min, max] = [row[`current${field}`], row[`min${field}`], row[`max${field}`]];
    if (quantity === "pressure" && row.seaLevelPressure !== undefined) {
      const lift = row.seaLevelPressure / mean;
      [mean, min, max] = [row.seaLevelPressure, min * lift, max * lift];
    }
    const { from } = scale(quantity);
    return { raw: { mean, min, max }, mean: from(mean), min: from(min), max: from(max) };
  }

  #arrange(now) {
    const { length } = SPANS[this.#span];
    const first = this.#rows[0]?.at ?? now;
    const shownLength = this.#span === "hour" ? Math.min(length, Math.max(now - first, LEAST)) : length;
    this.#range = [(now - shownLength) / 1000, now / 1000];
  }

  // Columns for uPlot. An empty row stands where readings are missing, so that the line breaks there.
  columns(quantity) {
    const columns = [[], [], [], []];
    const push = (...values) => values.forEach((value, column) => columns[column].push(value));
    this.#rows.forEach((row, index) => {
      if (this.#isHole(index)) push((row.at + this.#rows[index - 1].at) / 2000, null, null, null);
      const { min, max, mean } = this.#values(quantity, row);
      push(row.at / 1000, min, max, mean);
    });
    return columns;
  }

  // Whether readings are missing before this row: a longer step than the interval explains. Where no bucket beside
  // it has more than one reading, the interval may have been a longer one then: its neighbours tell.
  #isHole(index) {
    const step = (at) => (at > 0 && at < this.#rows.length ? this.#rows[at].at - this.#rows[at - 1].at : 0);
    const isDense = [index - 1, index].some((at) => this.#rows[at]?.count > 1);
    const usual = isDense ? 0 : 3 * Math.max(step(index - 1), step(index + 1));
    return step(index) > Math.max(this.#most, usual);
  }

  #figure(quantity) {
    return document.querySelector(`[data-quantity=${quantity}] [data-chart]`);
  }

  #draw(quantity) {
    const figure = this.#figure(quantity);
    const style = getComputedStyle(figure);
    const color = (name) => style.getPropertyValue(name).trim();
    this.#plots[quantity]?.destroy();
    figure.replaceChildren();
    const empty = this.#rows.length === 0;
    figure.classList.toggle("empty", empty);
    figure.setAttribute("aria-label", this.#summary(quantity));
    if (empty) {
      delete this.#plots[quantity];
      figure.textContent = this.#nothing;
      return;
    }
    const font = `${style.getPropertyValue("--axis-size").trim()} "Instrument Sans", sans-serif`;
    const axis = { stroke: color("--muted"), font, ticks: { show: false }, grid: { stroke: color("--rule"), width: 1 } };
    const { width, height } = figure.getBoundingClientRect();
    this.#plots[quantity] = new uPlot(
      {
        width,
        height,
        padding: [8, 22, 0, 0],
        legend: { show: false },
        cursor: {
          drag: { x: false, y: false },
          y: false,
          points: { size: 9, width: 2, stroke: color("--ground"), fill: color("--pen") },
          bind: { mousemove: () => null, mouseleave: () => null, mousedown: () => null, dblclick: () => null },
        },
        scales: {
          x: { time: true, range: () => this.#range },
          y: { range: (_, low, high) => spread(quantity, low, high) },
        },
        axes: [
          { ...axis, size: 28, space: 70, values: (_, ticks) => times(ticks, SPANS[this.#span].length) },
          { ...axis, size: (_, texts) => room(font, texts), space: 36, gap: 6, incrs: STEPS, values: (_, ticks) => labels(ticks) },
        ],
        series: [
          {},
          { stroke: "transparent", points: { show: false } },
          { stroke: "transparent", points: { show: false } },
          { stroke: color("--pen"), width: 2, points: { show: false, filter: (plot, series) => lone(plot.data[series]), size: 6, fill: color("--pen") } },
        ],
        bands: [{ series: [2, 1], fill: color("--pen-wash") }],
      },
      this.columns(quantity),
      figure,
    );
  }

  // What a screen reader says of the chart.
  #summary(quantity) {
    if (this.#rows.length === 0) return `${FIELD[quantity]}, ${this.words}. ${this.#nothing}`;
    let low = null;
    let high = null;
    for (const row of this.#rows) {
      const { raw } = this.#values(quantity, row);
      if (!low || raw.min < low.value) low = { value: raw.min, at: row.at };
      if (!high || raw.max > high.value) high = { value: raw.max, at: row.at };
    }
    const now = this.#range[1] * 1000;
    const point = ({ value, at }) => `${withUnit(quantity, value)} (${moment(at, now)})`;
    const level = quantity === "pressure" && this.#seaLevel ? " at sea level" : "";
    return `${FIELD[quantity]}${level}, ${this.words}: from ${point(low)} to ${point(high)}. Arrow keys read single values.`;
  }

  #listen(quantity) {
    const figure = this.#figure(quantity);
    figure.tabIndex = 0;
    figure.setAttribute("role", "application");
    figure.setAttribute("aria-roledescription", "chart");
    const under = (event) => {
      const plot = this.#plots[quantity];
      if (!plot) return;
      const left = event.clientX - plot.over.getBoundingClientRect().left;
      this.point(this.#nearest(plot.posToVal(left, "x") * 1000));
    };
    figure.addEventListener("pointermove", under);
    figure.addEventListener("pointerdown", under);
    figure.addEventListener("pointerleave", (event) => {
      // A finger that is lifted leaves the mark, so that it can be read.
      if (event.pointerType === "mouse") this.point(null);
    });
    figure.addEventListener("blur", () => this.point(null));
    figure.addEventListener("keydown", (event) => {
      const last = this.#rows.length - 1;
      const at = this.#pointed ?? last;
      const stride = event.shiftKey ? 12 : 1;
      const to = {
        ArrowLeft: this.#pointed === null ? last : at - stride,
        ArrowRight: at + stride,
        Home: 0,
        End: last,
      }[event.key];
      if (event.key === "Escape") this.point(null);
      else if (to === undefined || last < 0) return;
      else this.point(Math.min(Math.max(to, 0), last));
      event.preventDefault();
    });
  }

  #nearest(at) {
    let best = null;
    this.#rows.forEach((row, index) => {
      if (best === null || Math.abs(row.at - at) < Math.abs(this.#rows[best].at - at)) best = index;
    });
    return best;
  }

  #resize() {
    for (const [quantity, plot] of Object.entries(this.#plots)) {
      const figure = this.#figure(quantity);
      const { width, height } = figure.getBoundingClientRect();
      if (width !== plot.width || height !== plot.height) plot.setSize({ width, height });
    }
  }
}
