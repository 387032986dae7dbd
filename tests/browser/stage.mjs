// What the scripts share: a browser, the station's page in it, and everything that the page must never do.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const PAGE = process.env.PAGE;
const CONTROL = process.env.CONTROL;

// Quiet: the browser of a test talks to nobody but the station.
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// Runs `play` with a fresh browser and ends it, whatever happens.
export async function withBrowser(play) {
  const profile = mkdtempSync(join(tmpdir(), "weather-station-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ARGUMENTS,
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    viewport: { width: 1280, height: 800 },
  });
  try {
    await play(context);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

// A page that fails the test if it logs an error, breaks its own policy, or asks another host for anything.
export async function open(context, options = {}) {
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error" || /content security policy/i.test(message.text())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(error.stack));
  page.on("request", (request) => {
    if (!request.url().startsWith(PAGE)) page.complaints.push(`asked for ${request.url()}`);
  });
  if (options.viewport) await page.setViewportSize(options.viewport);
  if (options.colorScheme) await page.emulateMedia({ colorScheme: options.colorScheme });
  if (options.before) await page.addInitScript(options.before);
  await page.goto(PAGE);
  await page.locator("#board:not([data-waiting])").waitFor();
  await page.locator("figure canvas").nth(2).waitFor();
  return page;
}

export function unblemished(page) {
  assert.deepEqual(page.complaints, []);
}

// One sentence a check, so that a failure has a name. ONLY=word leaves out those without the word.
export async function check(fact, prove) {
  if (process.env.ONLY && !fact.includes(process.env.ONLY)) return console.log(`left out: ${fact}`);
  const begin = Date.now();
  try {
    await prove();
  } catch (error) {
    console.error(`FAILED  ${fact}`);
    throw error;
  }
  console.log(`ok      ${fact} (${Date.now() - begin} ms)`);
}

// Polls a state until it holds.
export async function until(what, holds, limit = 30_000) {
  const begin = Date.now();
  for (;;) {
    const found = await holds();
    if (found) return found;
    assert.ok(Date.now() - begin < limit, `${what}: not within ${limit} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export async function json(path) {
  const response = await fetch(new URL(path, PAGE));
  assert.equal(response.status, 200, path);
  return response.json();
}

// The hub's switches.
export async function hub(verb, body = null, method = "POST") {
  const response = await fetch(`${CONTROL}/${verb}`, {
    method,
    signal: AbortSignal.timeout(20_000),
    ...(body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  assert.ok(response.ok, `${verb}: ${response.status} ${await response.text()}`);
}
