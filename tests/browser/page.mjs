// The page as people use it: with eyes, keyboard, finger, screen reader, on a phone and on a wall.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { PAGE, check, hub, json, open, unblemished, until, withBrowser } from "./stage.mjs";

const folder = process.env.STATION_DIR;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const value = (page, quantity) => page.locator(`[data-quantity=${quantity}] [data-value]`).textContent();
const number = (text) => Number(text.replace("−", "-"));
// The rows of a chart's leftmost pixels that are not empty.
const inkAtTheEdge = (figure) => figure.locator("canvas").evaluate((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, 1, canvas.height);
  return Array.from({ length: canvas.height }, (_, row) => row).filter((row) => data[4 * row + 3] > 0);
});
const headline = (page) => page.locator("#headline").textContent();

await withBrowser(async (context) => {
  let page = await open(context);

  await check("the values are the station's and move", async () => {
    await until("the page shows what the station says", async () => {
      const { sensor } = await json("api/status");
      const shown = [await value(page, "temperature"), await value(page, "humidity"), await value(page, "pressure")].map(number);
      const { currentTemperature, currentHumidity, seaLevelPressure } = sensor.lastReading;
      return Math.abs(shown[0] - currentTemperature) < 0.11
        && Math.abs(shown[1] - currentHumidity) < 1.1
        && Math.abs(shown[2] - seaLevelPressure * 10) < 0.11;
    });
    const before = await page.locator("#board").innerText();
    await until("a value moves", async () => (await page.locator("#board").innerText()) !== before);
    assert.match(await page.locator("#age").textContent(), /^Read (just now|[1-4] seconds? ago)$/);
    assert.match(await page.locator("#dew-point").textContent(), /^Dew point −?\d+\.\d °C$/);
    assert.match(await page.locator("#station-pressure").textContent(), /^At sea level; \d{3,4}\.\d hPa here$/);
  });

  await check("the day's extremes and the trends are there", async () => {
    const { readings } = await json(`api/readings?since=${new Date(Date.now() - 4 * 3_600_000).toISOString()}&step=300`);
    assert.ok(readings.length > 40);
    for (const quantity of ["temperature", "humidity", "pressure"]) {
      const section = page.locator(`[data-quantity=${quantity}]`);
      const [low, high] = [await section.locator(".low").textContent(), await section.locator(".high").textContent()];
      assert.match(low, /^Lowest today −?[\d.]+ \d\d:\d\d$/);
      assert.ok(number(low.split(" ")[2]) <= number(high.split(" ")[2]), `${low} / ${high}`);
      assert.match(await section.locator("[data-trend]").textContent(), /^(Steady|(Rising|Falling)( slowly| quickly)?, [\d.]+ (°C|%|hPa)) in [13] h$/);
    }
  });

  await check("the chart has the points of the store, and the keyboard reads each of them", async () => {
    await page.locator("#spans input[value=week]").check({ force: true });
    const figure = page.locator("[data-quantity=temperature] figure");
    await until("the week is drawn", async () => (await figure.getAttribute("aria-label")).includes("last week"));
    const asked = await json(`api/readings?since=${new Date(Date.now() - 7 * 86_400_000).toISOString()}&step=1800`);
    const drawn = await page.evaluate(() => {
      const { charts } = window.weatherStation;
      return { rows: charts.rows.map((row) => [row.time, row.currentTemperature]), columns: charts.columns("temperature") };
    });
    const stored = new Map(asked.readings.map((row) => [row.time, row.currentTemperature]));
    // The first and the last bucket change while the two questions are asked.
    for (const [time, temperature] of drawn.rows.slice(1, -1)) assert.equal(temperature, stored.get(time), time);
    assert.ok(drawn.rows.length > 160, `${drawn.rows.length} points`);
    const means = drawn.columns[3].filter((mean) => mean !== null);
    assert.deepEqual(means, drawn.rows.map(([, temperature]) => temperature));

    await figure.focus();
    await page.keyboard.press("Home");
    const first = await page.locator("#pointed").textContent();
    await page.keyboard.press("ArrowRight");
    const second = await page.locator("#pointed").textContent();
    assert.notEqual(first, second);
    const told = number(second.split(": ")[1].split(" ")[0]);
    assert.ok(Math.abs(told - drawn.rows[1][1]) < 0.051, `${second} is not ${drawn.rows[1]}`);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#pointed").textContent(), "");
  });

  await check("mouse and finger read values off the chart", async () => {
    const box = await page.locator("[data-quantity=humidity] figure").boundingBox();
    await page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2);
    assert.match(await page.locator("#pointed").textContent(), /: −?\d+\.\d °C.*, \d+ %.*, \d+\.\d hPa/);
    await page.mouse.move(box.x, box.y - 200);
    await until("the mark goes with the mouse", async () => (await page.locator("#pointed").textContent()) === "");
    await page.locator("[data-quantity=humidity] figure").dispatchEvent("pointerdown", {
      pointerType: "touch", clientX: box.x + box.width / 2, clientY: box.y + 20, bubbles: true,
    });
    assert.match(await page.locator("#pointed").textContent(), /hPa/);
  });

  await check("every span has its chart, and the table its rows", async () => {
    for (const span of ["hour", "day", "month", "year"]) {
      await page.locator(`#spans input[value=${span}]`).check({ force: true });
      await until(span, async () => (await page.locator("[data-quantity=pressure] figure").getAttribute("aria-label")).includes(`last ${span}: from`));
    }
    await page.locator("#table summary").click();
    await until("rows", async () => (await page.locator("#table tbody tr").count()) > 40);
    await page.locator("#table summary").click();
    await page.locator("#spans input[value=day]").check({ force: true });
  });

  await check("in calm weather the labels have decimals, and room", async () => {
    const usual = page.viewportSize();
    await page.setViewportSize({ width: 1100, height: 1500 });
    await page.route("**/api/readings?*", async (route) => {
      const answer = await (await route.fetch()).json();
      for (const row of answer.readings) {
        for (const key of Object.keys(row).filter((key) => /pressure/i.test(key))) row[key] = 101.29;
      }
      await route.fulfill({ json: answer });
    });
    await page.locator("#spans input[value=week]").check({ force: true });
    const figure = page.locator("[data-quantity=pressure] figure");
    await until("calm weather", async () => /from 1,?012\.9 .*1,?012\.9/.test(await figure.getAttribute("aria-label")));
    assert.deepEqual(await inkAtTheEdge(figure), [], "a label is cut off");
    // The page may ask at this moment: the answer is waited for.
    await page.unrouteAll({ behavior: "wait" });
    await page.setViewportSize(usual);
    await page.locator("#spans input[value=day]").check({ force: true });
  });

  await check("units and colours are switched by keyboard and remembered", async () => {
    const celsius = number(await value(page, "temperature"));
    await page.locator("#choices input[value=C]").focus();
    await page.keyboard.press("ArrowRight");
    await page.locator("#choices input[value=inHg]").check({ force: true });
    await page.locator("#choices input[value=dark]").check({ force: true });
    await page.close();
    page = await open(context);
    assert.ok(Math.abs(number(await value(page, "temperature")) - (celsius * 1.8 + 32)) < 3);
    assert.match(await value(page, "pressure"), /^(2[6-9]|3[0-2])\.\d\d$/);
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
    for (const choice of ["C", "hPa", "auto"]) await page.locator(`#choices input[value=${choice}]`).check({ force: true });
  });

  await check("what another program's page has remembered at this address is no choice of ours", async () => {
    const foreign = await open(context, { before: () => {
      for (const key of ["temperature", "pressure", "theme"]) localStorage.setItem(key, "\"dark\"");
    } });
    for (const choice of ["C", "hPa", "auto"]) assert.ok(await foreign.locator(`#choices input[value=${choice}]`).isChecked(), choice);
    assert.equal(await foreign.evaluate(() => "theme" in document.documentElement.dataset), false);
    unblemished(foreign);
    await foreign.evaluate(() => localStorage.clear());
    await foreign.close();
  });

  await check("a browser that cannot read the page's modules says so", async () => {
    assert.equal(await page.locator("#too-old").count(), 0, "the page has started");
    const old = await context.newPage();
    await old.route("**/charts.js", (route) => route.fulfill({ contentType: "text/javascript", body: "export class Charts { #; }" }));
    await old.goto(PAGE);
    await until("the sentence", async () => old.locator("#too-old").isVisible(), 10_000);
    assert.match(await old.locator("#too-old").innerText(), /^This browser is too old for the page/);
    assert.equal((await context.request.get(await old.locator("#too-old a").first().evaluate((link) => link.href))).status(), 200);
    await old.close();
  });

  await check("nothing of it breaks the rules of WCAG 2.2 AA that a program can check, light and dark", async () => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() =>
        window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 120))]), []);
    }
  });

  await check("on a phone nothing sticks out; on a wall the weather and the state fill one screen", async () => {
    for (const [width, height] of [[360, 780], [390, 844], [820, 1180], [1280, 800], [1920, 1080], [3840, 2160]]) {
      await page.setViewportSize({ width, height });
      await until(`${width} px settles`, async () => page.evaluate(() =>
        [...document.querySelectorAll("figure")].every((figure) => Math.abs(figure.querySelector("canvas").clientWidth - figure.clientWidth) < 2)));
      const out = await page.evaluate(() => [
        document.documentElement.scrollWidth - innerWidth,
        ...[...document.querySelectorAll(".figures, .day")].map((one) => one.scrollWidth - one.parentElement.clientWidth),
      ]);
      assert.ok(Math.max(...out) <= 1, `${width} px: ${out}`);
      if (width < 1280) continue;
      const bottom = await page.locator("#state").evaluate((state) => state.getBoundingClientRect().bottom);
      assert.ok(bottom <= height, `${width} x ${height}: the state ends at ${bottom}`);
      const size = await page.locator("[data-quantity=temperature] .figures").evaluate((figures) => parseFloat(getComputedStyle(figures).fontSize));
      assert.ok(size > height / 4, `${width} x ${height}: digits of ${size} px`);
    }
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  await check("offline and online are told when the hub goes and comes", async () => {
    await until("online", async () => (await headline(page)).startsWith("Online since"));
    await hub("stop");
    await until("offline", async () => /^(Offline|Connecting) since \d\d:\d\d/.test(await headline(page)));
    await until("what waits is told", async () => /readings? (are|is) safe on disk and will follow/.test(await headline(page)));
    assert.notEqual(await page.locator("#state .lamp").getAttribute("data-state"), "online");
    assert.match(await page.locator("#groups").innerText(), /Not yet sent\s+\d+ readings?/);
    await hub("start");
    await until("online again", async () => /^Online since \d\d:\d\d\. Everything recorded is with the hub\.$/.test(await headline(page)), 60_000);
  });

  await check("the station's own state is there in words", async () => {
    const facts = await page.locator("#groups").innerText();
    for (const fact of [/Last accepted\s+\d\d:\d\d/, /Sign-in\s+Renewed at .*, valid for/, /Device\s+roof/, /Key\s+In the TPM/, /TPM\s+.*firmware/,
      /Quality\s+Nothing doubtful/, /Clock/, /Disk\s+.* free of/, /Card life/, /Messages\s+86,400 a day/, /Data\s+About/]) {
      assert.match(facts, fact);
    }
    assert.match(await page.locator("#version").textContent(), /^Weather station \d+\.\d+\.\d+$/);
  });

  await check("an online station that sends nothing says why", async () => {
    await hub("faults", { fault: "throttle", retryAfter: 5 });
    await until("the reason", async () =>
      /^Online since .*, but nothing is accepted: .*slow down\..* safe on disk and will follow\.$/.test(await headline(page)));
    assert.match(await page.locator("#groups").innerText(), /Why\s+.*slow down/);
    await hub("faults", null, "DELETE");
    await until("accepted again", async () => /Everything recorded is with the hub\.$/.test(await headline(page)), 60_000);
  });

  await check("a message from the cloud is shown", async () => {
    const sent = await fetch(`${process.env.CONTROL}/c2d/roof`, { method: "POST", body: JSON.stringify({ body: "spiders?" }), headers: { "content-type": "application/json" } });
    await until("the message", async () => (await page.locator("#messages").innerText()).includes("spiders?"));
  });

  await check("a page that nobody sees gives its stream back, and asks again when it is seen", async () => {
    const streams = [];
    page.on("request", (request) => request.url().endsWith("/api/stream") && streams.push("opened"));
    page.on("requestfailed", (request) => request.url().endsWith("/api/stream") && streams.push("closed"));
    const see = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await see(true);
    await until("closed", () => streams.join() === "closed");
    await see(false);
    await until("opened again", () => streams.join() === "closed,opened");
    await until("fresh", async () => /^Read (just now|[1-4] seconds? ago)$/.test(await page.locator("#age").textContent()));
  });
  unblemished(page);

  await check("the TPM form refuses a wrong code, saves with the right one, and never shows the key", async () => {
    await page.getByRole("link", { name: "TPM configuration" }).click();
    const key = readFileSync(join(folder, "cellar.key"), "utf8").trim();
    const fill = async (code) => {
      await page.getByLabel("Host name").fill("localhost");
      await page.getByLabel("Device id").fill("cellar");
      await page.getByLabel("Primary key").fill(key);
      await page.getByLabel("Setup code").fill(code);
      const replace = page.getByLabel("Replace the identity that is there");
      if (await replace.count()) await replace.check();
      await page.getByRole("button", { name: "Save" }).click();
      await page.waitForLoadState();
      assert.ok(!(await page.content()).includes(key), "the key is on the page");
    };
    assert.match(await page.locator(".facts").innerText(), /roof/);
    await fill("2222-2222");
    assert.match(await page.getByRole("alert").textContent(), /^That is not the setup code\. Wait 1 second/);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const code = readFileSync(join(folder, "setup-code"), "utf8").trim();
    await fill(code);
    assert.ok(page.url().endsWith("/configuration?saved"), `${page.url()}: ${await page.locator("main").innerText()}`);
    assert.match(await page.getByRole("status").textContent(), /^Saved\./);
    assert.match(await page.locator(".facts").innerText(), /Device id\s+cellar/);
    assert.notEqual(readFileSync(join(folder, "setup-code"), "utf8").trim(), code);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document));
    assert.deepEqual(violations.map(({ id }) => id), []);
    await page.goto(PAGE);
    await until("the station signs in as the new device", async () =>
      (await page.locator("#name").textContent()) === "cellar" && (await headline(page)).startsWith("Online since"));
  });
});
console.log("the page does what it should");
