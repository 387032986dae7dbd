// The live stream: keeps it open, opens it again when it falls silent, and knows for how long nothing has come.
// Takes documents to whoever wants them, and knows nothing of what is in them.

// The station sends an event every 20 s at least: without one for this long it is lost.
const SILENCE = 45_000;
// A station that refused (all its streams are taken) is asked again after this long.
const AGAIN = 15_000;

export class Stream {
  #take;
  #source = null;
  #heard = Date.now();
  #opened = 0;
  #again;
  #refusal = "";

  constructor(take) {
    this.#take = take;
  }

  open() {
    this.close();
    this.#opened = Date.now();
    const source = new EventSource("api/stream");
    source.addEventListener("status", ({ data }) => {
      this.#heard = Date.now();
      this.#refusal = "";
      this.#take(JSON.parse(data));
    });
    source.addEventListener("error", () => {
      // Broken off: the browser opens it again. Refused: it is closed for good.
      if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
      this.#again = setTimeout(() => this.open(), AGAIN);
      this.#askWhy();
    });
    this.#source = source;
  }

  // Gives the place in the stream to others.
  close() {
    clearTimeout(this.#again);
    this.#source?.close();
    this.#source = null;
  }

  // Opens what was closed: in the time between there was nothing to hear.
  resume() {
    this.#heard = Date.now();
    this.open();
  }

  // To be asked now and then: { length, refusal } when nothing has come for too long, else null. A stream that is
  // silent may be one whose other end is gone without a word: then it is opened again.
  silence() {
    const length = Date.now() - this.#heard;
    if (!this.#source || length <= SILENCE) return null;
    if (Date.now() - this.#opened > SILENCE) this.open();
    return { length, refusal: this.#refusal };
  }

  // The browser does not tell with which words a stream was refused.
  async #askWhy() {
    const stop = new AbortController();
    try {
      const response = await fetch("api/stream", { signal: stop.signal });
      const isOurs = response.status === 503 && response.headers.get("content-type")?.startsWith("text/plain");
      this.#refusal = isOurs ? (await response.text()).trim() : "";
    } catch {
      this.#refusal = "";
    }
    stop.abort();
  }
}
