// A station that is played: the page's own files, and whatever status and history a test wants. For states that a
// healthy station never has, or only after days.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const FILES = new URL("../../src/showcase/page/", import.meta.url);
const KINDS = { html: "text/html", css: "text/css", js: "text/javascript", woff2: "font/woff2", svg: "image/svg+xml" };
export const HOUR = 3_600_000;
export const ago = (milliseconds) => new Date(Date.now() - milliseconds).toISOString();

// A reading as the status document has it.
export const reading = (time, temperature = 8.5) =>
  ({ time, currentTemperature: temperature, currentHumidity: 80, currentPressure: 101.3 });

// A bucket as the history has it.
export const row = (time, { count = 1, temperature = 8.5 } = {}) => ({
  ...reading(time, temperature), count,
  minTemperature: temperature - 0.2, maxTemperature: temperature + 0.2,
  minHumidity: 79, maxHumidity: 81, minPressure: 101.29, maxPressure: 101.31,
});

// The status document of a station that is well: a reading a minute, the hub has everything.
export function well() {
  return {
    version: "1.0.0",
    sensor: { state: "ok", reason: null, chip: "BME280", lastReading: reading(ago(1_000)), missed: 0, taken: 5, jitterMedian: 1, jitterWorst: 2 },
    store: { state: "ok", reason: null, storeId: "x", lastSequence: 5, pending: 0, oldestPendingTime: null, inMemory: 0, bytes: 1_000, deadLetters: 0 },
    cloud: { state: "online", since: ago(HOUR), reason: null, lastAccepted: null, accepted: 1, tokenExpires: null, tokenRenewAt: null, transport: "amqp", eta: null, connections: 1, messages: [] },
    identity: { source: "tpm", host: "hub.example", deviceId: "roof", reason: null, tpm: null },
    clock: { state: "synchronised", reason: null },
    outlook: { readingsPerDay: 1_440, messagesPerDay: 1_440, meteredPerDay: 1_440, tier: "free", dataPerDay: 1, writtenPerDay: 1, disk: null, cardLifeYears: null },
  };
}

// Serves until `close`. What it plays may be changed at any time: `status`, `history` (a function of the query), and
// `refuse` and `fail`, with which the stream and the history are refused.
export class Played {
  status = well();
  history = () => [];
  refuse = null;
  fail = null;
  // Streams that were asked for, and histories that failed.
  streams = 0;
  failed = 0;
  #open = new Set();
  #server = createServer((request, response) => this.#answer(new URL(request.url, "http://station"), response));

  async start() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get address() {
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  // Sends the status to whoever has a stream.
  tell() {
    for (const response of this.#open) this.#send(response);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #answer({ pathname, searchParams }, response) {
    if (pathname === "/api/stream") return this.#stream(response);
    if (pathname === "/api/readings") {
      const why = typeof this.fail === "function" ? this.fail(searchParams) : this.fail;
      if (why) {
        this.failed += 1;
        return response.writeHead(503).end(why);
      }
      const since = Date.parse(searchParams.get("since"));
      const readings = this.history(searchParams).filter(({ time }) => Date.parse(time) >= since);
      return response.setHeader("content-type", "application/json").end(JSON.stringify({ step: Number(searchParams.get("step")), readings }));
    }
    const file = pathname === "/" ? "index.html" : pathname.slice(1);
    response.setHeader("content-type", KINDS[file.split(".").pop()] ?? "text/plain");
    response.end(readFileSync(new URL(file, FILES)));
  }

  #stream(response) {
    this.streams += 1;
    if (this.refuse) return response.writeHead(503, { "content-type": "text/plain" }).end(this.refuse);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    this.#open.add(response);
    response.on("close", () => this.#open.delete(response));
    this.#send(response);
  }

  #send(response) {
    if (this.status) response.write(`event: status\ndata: ${JSON.stringify({ time: new Date().toISOString(), ...this.status })}\n\n`);
  }
}
