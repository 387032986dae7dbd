// The page in states that a healthy station never has: its words, its charts and its silence, with a played station.

import assert from "node:assert/strict";
import { HOUR, Played, ago, reading, row, well } from "./played.mjs";
import { check, until, withBrowser } from "./stage.mjs";

const station = await new Played().start();
const headline = (page) => page.locator("#headline").textContent();

await withBrowser(async (context) => {
  // A page on the played station as it is at this moment; the check before it has left nothing.
  async function look(change = () => {}) {
    for (const old of context.pages()) if (old.url().startsWith(station.address)) await old.close();
    Object.assign(station, { status: well(), history: () => [], refuse: null, fail: null });
    change(station.status);
    const page = await context.newPage();
    await page.clock.install();
    page.on("pageerror", (error) => assert.fail(error));
    await page.goto(station.address);
    if (!station.refuse) await until("the page knows the station", async () => !(await headline(page)).startsWith("Asking"));
    return page;
  }

  await check("what is only in memory is not called safe", async () => {
    let page = await look(({ cloud, store }) => {
      Object.assign(cloud, { state: "offline", reason: "no network" });
      Object.assign(store, { pending: 2, inMemory: 50 });
    });
    assert.match(await headline(page), /: no network\. 2 readings are safe on disk and will follow\. 50 readings are only in memory, not yet on disk\.$/);
    page = await look(({ store }) => Object.assign(store, { inMemory: 1, state: "failing", reason: "no room on the disk" }));
    assert.match(await headline(page), /1 reading is only in memory, not yet on disk\./);
    assert.doesNotMatch(await headline(page), /safe|Everything recorded/);
    assert.doesNotMatch(await page.locator("#groups").innerText(), /Not yet sent\s+Nothing/);
  });

  await check("readings that were refused, or have waited for long, are not called everything", async () => {
    const tells = async (change) => headline(await look(({ store, cloud }) => { Object.assign(store, change); cloud.eta = null; }));
    const refused = await tells({ deadLetters: 500 });
    assert.match(refused, /^Online since \d\d:\d\d\. 500 readings were refused by the hub and set aside\. The others are with the hub\.$/);
    assert.match(await tells({ deadLetters: 1, inMemory: 30 }), /The others on disk are with the hub\. 30 readings are only in memory/);
    assert.match(await tells({ deadLetters: 1 }), / 1 reading was refused by the hub and set aside\./);
    assert.match(await tells({ pending: 3, oldestPendingTime: ago(72 * HOUR) }), /\. 3 readings are safe on disk and on the way\.$/);
    assert.match(await tells({ pending: 1, oldestPendingTime: ago(6 * 60_000) }), /\. 1 reading is safe on disk and on the way\.$/);
    // Without an open store nobody knows what waits in it.
    const closed = await tells({ storeId: "", state: "failing", reason: "the disk is read-only" });
    assert.match(closed, /^Online since \d\d:\d\d\. But the store fails\. What waits on disk is not known\.$/);
    // A reading a minute: the last two are always on their way.
    assert.match(await tells({ pending: 2, oldestPendingTime: ago(90_000) }), /\. Everything recorded is with the hub\.$/);
  });

  await check("no line is drawn through hours in which nothing was recorded, whatever the interval was", async () => {
    // Buckets of five minutes, each with this many readings, from so many hours ago until so many.
    const buckets = (from, until, count, every = HOUR / 12) =>
      Array.from({ length: Math.round(((from - until) * HOUR) / every) + 1 }, (_, n) => row(ago(from * HOUR - n * every), { count }));
    const holes = async (rows) => {
      const page = await look(() => { station.history = () => rows; });
      await page.locator("#spans input[value=day]").check({ force: true });
      await page.waitForFunction((count) => window.weatherStation.charts.rows.length === count, rows.length);
      return page.evaluate(() => window.weatherStation.charts.columns("temperature")[3].filter((mean) => mean === null).length);
    };
    assert.equal(await holes([...buckets(20, 14, 5), ...buckets(9, 9, 5), ...buckets(4, 0.1, 5)]), 2);
    // A reading every hour was the interval then, and no hole; five hours without one are.
    assert.equal(await holes([...buckets(20, 14, 1, HOUR), ...buckets(9, 1, 1, HOUR)]), 1);
  });

  await check("a single value after a hole can be seen", async () => {
    const page = await look(() => {
      station.history = () => [...Array.from({ length: 60 }, (_, n) => row(ago(15 * HOUR - n * 300_000), { count: 5 })), row(ago(1 * HOUR), { count: 5 })];
    });
    await page.locator("#spans input[value=day]").check({ force: true });
    const figure = page.locator("[data-quantity=temperature] figure");
    await figure.locator("canvas").waitFor();
    // Dots of the trace's colour in the last quarter of the chart.
    // Of the figure: a load puts another canvas into it at any time.
    const ink = () => figure.evaluate((figure) => {
      const canvas = figure.querySelector("canvas");
      if (!canvas) return 0;
      const context = canvas.getContext("2d");
      const from = Math.round(canvas.width * 0.75);
      const { data } = context.getImageData(from, 0, canvas.width - from, canvas.height);
      const ruler = new OffscreenCanvas(1, 1).getContext("2d");
      ruler.fillStyle = getComputedStyle(figure).getPropertyValue("--pen").trim();
      ruler.fillRect(0, 0, 1, 1);
      const pen = ruler.getImageData(0, 0, 1, 1).data;
      let found = 0;
      for (let at = 0; at < data.length; at += 4) if ([0, 1, 2, 3].every((part) => Math.abs(data[at + part] - pen[part]) < 12)) found += 1;
      return found;
    });
    await until("the value", async () => (await ink()) > 8, 10_000);
    assert.ok((await ink()) < 80, "more than the one point");
  });

  await check("a last reading of another day is nothing of today, and is told with its date", async () => {
    const page = await look(({ sensor }) => {
      Object.assign(sensor, { state: "absent", reason: "nothing at 0x76", lastReading: reading(ago(48 * HOUR)) });
      station.history = () => [row(ago(50 * HOUR), { count: 5 }), row(ago(49 * HOUR), { count: 5 }), row(ago(48 * HOUR), { count: 5 })];
    });
    const temperature = page.locator("[data-quantity=temperature]");
    await until("the week", async () => (await temperature.locator("figure").getAttribute("aria-label")).includes("last week: from"), 10_000);
    assert.match(await temperature.locator("figure").getAttribute("aria-label"), /from 8\.3 °C \(\w{3},? \d+ \w+, \d\d:\d\d\) to /);
    assert.equal(await temperature.locator("[data-day]").isVisible(), false);
    // A page that stays open over midnight.
    const days = await page.evaluate(async () => {
      const { Today } = await import("/today.js");
      const today = new Today();
      const midnight = new Date().setHours(0, 0, 0, 0);
      const seen = (temperature, at, now) => {
        today.add({ temperature }, midnight + at, midnight + now);
        const { min, max } = today.extremes("temperature") ?? {};
        return [min?.value, max?.value];
      };
      return [seen(3, -2_000, -2_000), seen(5, -1_000, -1_000), seen(5, -1_000, 500), seen(4, 1_000, 1_000)];
    });
    assert.deepEqual(days, [[3, 3], [3, 5], [undefined, undefined], [4, 4]]);
  });

  await check("an extreme is told for the middle of its five minutes, and not for a time that is still to come", async () => {
    const noon = new Date().setHours(12, 0, 0, 0);
    const page = await look(() => {
      station.history = () => [
        row(new Date(noon - HOUR).toISOString(), { temperature: 20 }),
        row(new Date(noon - 40_000).toISOString(), { temperature: 5 }),
      ];
    });
    const told = await page.evaluate(async (now) => {
      const { Today } = await import("/today.js");
      const today = new Today();
      await today.load(now);
      const { min, max } = today.extremes("temperature");
      return [min.at - now, max.at - now];
    }, noon);
    assert.deepEqual(told, [0, 150_000 - HOUR]);
  });

  await check("a page opens with the shortest span that shows something, and with the hour of a young station", async () => {
    const opens = async (ages, perDay = 1_440) => {
      const page = await look(({ outlook }) => {
        outlook.readingsPerDay = perDay;
        station.history = () => ages.map((age) => row(ago(age * HOUR), { count: 5 })).reverse();
      });
      const figure = page.locator("[data-quantity=temperature] figure");
      await until("an answer", async () => !/asking/i.test(await figure.getAttribute("aria-label") ?? "asking"), 10_000);
      const told = (await figure.getAttribute("aria-label")).match(/last (\w+)(?::|\. Nothing)/)[1];
      assert.equal(await page.locator("#spans input:checked").getAttribute("value"), told);
      return told;
    };
    assert.equal(await opens([0.1, 0.2]), "hour");
    assert.equal(await opens([0.1, 2, 3]), "day");
    // A sensor that died yesterday evening, or long ago.
    assert.equal(await opens([23.5, 23.8]), "day");
    assert.equal(await opens([50, 60]), "week");
    assert.equal(await opens([24 * 20, 24 * 40]), "month");
    assert.equal(await opens([24 * 90]), "year");
    // A reading every six hours is never young.
    assert.equal(await opens([0.1, 6.1, 12.1, 18.1], 4), "day");
    assert.equal(await opens([0.1], 4), "day");
    assert.equal(await opens([]), "hour");
  });

  await check("a station that was started again shows no values from before", async () => {
    const page = await look();
    const temperature = page.locator("[data-quantity=temperature]");
    await until("a value", async () => (await temperature.locator("[data-value]").textContent()) === "8.5");
    await until("the day", () => temperature.locator("[data-day]").isVisible());
    station.status.sensor = { ...station.status.sensor, state: "starting", lastReading: null, taken: 0 };
    station.tell();
    await until("no value", async () => (await temperature.locator("[data-value]").textContent()) === "–", 10_000);
    assert.equal(await temperature.locator("[data-day]").isVisible(), false);
    assert.equal(await temperature.locator("[data-trend]").textContent(), "");
    assert.equal(await page.locator("#age").textContent(), "Waiting for the first reading");
    assert.equal(await page.locator("#age[data-old]").count(), 0);
  });

  await check("a history that cannot be read is said to be that, and not to be empty", async () => {
    const page = await look(() => { station.fail = "the store is being salvaged\n"; });
    const figure = page.locator("[data-quantity=temperature] figure");
    await until("the reason", async () => (await figure.textContent()) === "The history cannot be read: the store is being salvaged", 10_000);
    assert.match(await figure.getAttribute("aria-label"), /The history cannot be read: the store is being salvaged$/);
    Object.assign(station, { fail: null, history: () => [row(ago(2 * HOUR), { count: 5 }), row(ago(HOUR), { count: 5 })] });
    await page.locator("#spans input[value=month]").check({ force: true });
    await until("the month is drawn", async () => (await figure.locator("canvas").count()) === 1 && (await figure.getAttribute("aria-label")).includes("last month: from"));
    // A chart that is there outlives one failure, and no second one.
    station.fail = "the store is locked\n";
    const failed = station.failed;
    await page.clock.fastForward(300_000);
    await until("one failure", () => station.failed > failed, 10_000);
    // An answer after that one: the page has heard of it.
    await page.evaluate(async () => (await fetch("api/readings?since=1970-01-01T00:00:00Z")).text());
    assert.equal(await figure.locator("canvas").count(), 1);
    await until("two failures", async () => {
      await page.clock.fastForward(30_000);
      return (await figure.textContent()) === "The history cannot be read: the store is locked";
    }, 20_000);
    station.fail = "no answer within 15 s: try again later\n";
    await page.locator("#spans input[value=week]").check({ force: true });
    await until("the week is not", async () => (await figure.textContent()) === "The history cannot be read: no answer within 15 s: try again later", 10_000);
    Object.assign(station, { fail: null, history: () => [row(ago(2 * HOUR), { count: 5 })] });
    await page.locator("#spans input[value=day]").check({ force: true });
    await until("the day is drawn", async () => (await figure.getAttribute("aria-label")).includes("last day: from"), 10_000);
    // What is drawn is never taken for another span.
    station.fail = (query) => (query.get("step") === "86400" ? "the year takes too long\n" : null);
    await page.locator("#spans input[value=year]").check({ force: true });
    await until("the year is not", async () => (await figure.textContent()) === "The history cannot be read: the year takes too long", 10_000);
    Object.assign(station, { fail: null, history: () => [] });
    await page.locator("#spans input[value=day]").check({ force: true });
    await until("nothing recorded", async () => (await figure.textContent()) === "Nothing recorded in the last day.", 10_000);
  });

  await check("before the history has come the charts say that they ask for it", async () => {
    const page = await look(() => { station.refuse = "40 pages are open already: try again later\n"; });
    await until("the words", async () => (await page.locator("[data-quantity=humidity] figure").textContent()) === "Asking for the history", 10_000);
  });

  await check("a stream that falls silent is opened again, and the lamps do not stay green", async () => {
    const page = await look();
    const lamps = () => page.locator("[data-lamp]").evaluateAll((lamps) => lamps.map((lamp) => lamp.dataset.state).join());
    assert.equal(await lamps(), "online,online");
    station.status = null;
    const before = station.streams;
    await page.clock.fastForward(50_000);
    await until("the page says that it has lost the station", () => page.locator("#lost").isVisible(), 10_000);
    assert.match(await page.locator("#lost").textContent(), /^The page has lost the station\. It keeps trying\. Nothing heard for 5\d seconds\.$/);
    assert.equal(await lamps(), "unknown,unknown");
    await until("another stream", () => station.streams === before + 1, 10_000);
    // What is read out is not written every second.
    await page.locator("[role=alert]").evaluate((alert) => {
      window.written = 0;
      new MutationObserver(() => (window.written += 1)).observe(alert, { childList: true, characterData: true, subtree: true });
    });
    await page.clock.runFor(5_000);
    await page.locator("#choices input[value=F]").check({ force: true });
    assert.equal(await lamps(), "unknown,unknown");
    await page.clock.fastForward(40_000);
    await until("and another", () => station.streams === before + 2, 10_000);
    assert.equal(await page.evaluate(() => window.written), 0);
    station.status = well();
    station.tell();
    await until("found again", async () => !(await page.locator("#lost").isVisible()), 10_000);
    assert.equal(await lamps(), "online,online");
    await page.locator("#choices input[value=C]").check({ force: true });
  });

  await check("deep frost, great heat and a long name stay in their columns, on a phone, a tablet and a wall", async () => {
    const page = await look(({ identity, sensor }) => {
      // What the provisioning service takes for a name where nobody gives one.
      identity.deviceId = "n5q4h7s2w6k3x7d4t2m5r6b3y7c4v2z5".padEnd(52, "j3f6");
      sensor.lastReading = { ...reading(ago(1_000), -28.9), currentHumidity: 100, seaLevelPressure: 104.85 };
    });
    const temperature = page.locator("[data-quantity=temperature] [data-value]");
    for (const [unit, celsius, told] of [["C", -28.9, "−28.9"], ["C", -40, "−40.0"], ["C", -10, "−10.0"], ["F", 41, "105.8"], ["F", -40, "−40.0"], ["C", -9.9, "−9.9"]]) {
      station.status.sensor.lastReading.currentTemperature = celsius;
      station.tell();
      await page.locator(`#choices input[value=${unit}]`).check({ force: true });
      await until(told, async () => (await temperature.textContent()) === told, 10_000);
      for (const [width, height] of [[360, 780], [820, 1180], [1280, 800]]) {
        await page.setViewportSize({ width, height });
        const { out, over } = await page.evaluate(() => ({
          out: document.documentElement.scrollWidth - innerWidth,
          over: [...document.querySelectorAll(".quantity")].map((section) =>
            Math.max(...[...section.querySelectorAll(".figures > *")].map((one) => one.getBoundingClientRect().right)) - section.getBoundingClientRect().right),
        }));
        assert.ok(out <= 0 && Math.max(...over) <= 0.5, `${told} °${unit} at ${width} px: the page by ${out}, the columns by ${over.map(Math.round)}`);
      }
    }
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  await check("a screen reader is told of the station's state when it changes, and not of each reading", async () => {
    const offline = ({ store, cloud }, pending, reason) => {
      Object.assign(cloud, { state: "offline", reason });
      Object.assign(store, { pending, oldestPendingTime: ago(HOUR) });
    };
    const page = await look((status) => offline(status, 10, "no network"));
    await page.locator("main").evaluate((main) => {
      window.heard = [];
      for (const live of main.querySelectorAll("[role=status], [role=alert]")) {
        new MutationObserver(() => window.heard.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
      }
    });
    const told = async (pending, reason) => {
      offline(station.status, pending, reason);
      station.tell();
      await until("the amount", async () => (await headline(page)).includes(` ${pending} readings are safe on disk`), 10_000);
      return page.evaluate(() => window.heard.length);
    };
    assert.equal(await told(11, "no network"), 0);
    assert.equal(await told(12, "no network"), 0);
    assert.equal(await told(13, "the hub does not know this device"), 1);
    assert.match(await page.evaluate(() => window.heard[0]), /^Offline since \d\d:\d\d: the hub does not know this device\.$/);
    assert.match(await headline(page), /device\. 13 readings are safe on disk and will follow\.$/);
  });

  await check("a page whose first stream is refused says so", async () => {
    const page = await look(() => { station.refuse = "40 pages are open already: try again later\n"; });
    await until("refused", () => station.streams > 0);
    await page.clock.runFor(50_000);
    await until("the page says so", () => page.locator("#lost").isVisible(), 10_000);
    assert.match(await page.locator("#lost").textContent(), /^The station refuses this page: 40 pages are open already: try again later\. Nothing heard/);
  });
});
station.close();
console.log("the page says what is so");
