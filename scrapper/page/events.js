/** The server's events, read by fetch(), which can say why a stream does not begin. */

import { Failure, request, wait } from "./api.js";

const LONGEST_PAUSE = 30;
// The server sends at least a comment every 15 s.
const SILENCE_MS = 60_000;

let last = "";

/**
 * Call *happened* with the name and the data of each event, until *signal* is aborted. A stream that
 * breaks resumes after the last event seen. *changed* is called with the failure when there is no
 * stream, and with null when there is one.
 */
export async function follow(signal, happened, changed) {
  for (let pause = 1; !signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    let seconds = pause;
    const silence = new AbortController();
    try {
      const response = await request("events", {
        headers: last ? { "Last-Event-ID": last } : {},
        signal: AbortSignal.any([signal, silence.signal]),
      });
      changed(null);
      for await (const event of parse(response.body, silence)) {
        last = event.id ?? last;
        pause = 1;
        happened(event.event, JSON.parse(event.data));
      }
      seconds = 0.2;
    } catch (failure) {
      if (signal.aborted) {
        return;
      }
      const known = failure instanceof Failure ? failure : new Failure(0, "unreachable", "");
      if (known.status === 401) {
        last = "";
        return;
      }
      changed(known);
      seconds = known.retryAfter ?? pause;
    }
    await wait(seconds);
  }
}

async function* parse(stream, silence) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) {
      return;
    }
    text += value.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const [, name, content] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name) {
          event[name] = content;
        }
      }
      if (event.data) {
        yield event;
      }
    }
  }
}
