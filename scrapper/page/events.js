/** Reads the server's events with fetch(), because EventSource does not report why a stream failed. */

import { Failure, request, wait } from "./api.js";

const MAX_PAUSE_SECONDS = 30;
// The server sends at least a comment every 15 s.
const SILENCE_MS = 60_000;

let lastEventId = "";

/**
 * Call *onEvent* with the name and the data of each event, until *signal* is aborted. After a stream
 * breaks, the next one resumes after the last event received. *onStatus* is called with null when a
 * stream opens, and with the failure when a stream cannot be opened or breaks.
 */
export async function follow(signal, onEvent, onStatus) {
  for (let pause = 1; !signal.aborted; pause = Math.min(2 * pause, MAX_PAUSE_SECONDS)) {
    let seconds = pause;
    const timeout = new AbortController();
    try {
      const response = await request("events", {
        headers: lastEventId ? { "Last-Event-ID": lastEventId } : {},
        signal: AbortSignal.any([signal, timeout.signal]),
      });
      onStatus(null);
      for await (const event of parse(response.body, timeout)) {
        lastEventId = event.id ?? lastEventId;
        pause = 1;
        onEvent(event.event, JSON.parse(event.data));
      }
      seconds = 0.2;
    } catch (failure) {
      if (signal.aborted) {
        return;
      }
      const error = failure instanceof Failure ? failure : new Failure(0, "unreachable", "");
      if (error.status === 401) {
        lastEventId = "";
        return;
      }
      onStatus(error);
      seconds = error.retryAfter ?? pause;
    }
    await wait(seconds);
  }
}

async function* parse(stream, timeout) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const timer = setTimeout(() => timeout.abort(), SILENCE_MS);
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
