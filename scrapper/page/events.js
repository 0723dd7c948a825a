/** Server-sent events of a job, read by fetch(), which can tell why a stream does not begin. */

import { Failure, read } from "./api.js";

const LONGEST_PAUSE = 30;

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** The events of a job, to its end; a stream that breaks is taken up after the last one seen. */
export async function* eventsOf(job) {
  let last = "";
  for (let pause = 1; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      const response = await read(`jobs/${job.id}/events`, {
        headers: last ? { "Last-Event-ID": last } : {},
      });
      if (response.status === 204) {
        return;
      }
      for await (const event of parseEvents(response.body)) {
        last = event.id ?? last;
        pause = 1;
        yield event;
        if (event.event === "end") {
          return;
        }
      }
    } catch (failure) {
      // A proxy whose server restarts answers with errors of its own for a while.
      if (failure.code === "not_found") {
        throw new Failure(404, "job_forgotten", "");
      }
      if (failure.status && failure.status < 500 && failure.code !== "too_many_requests") {
        throw failure;
      }
    }
    await wait(pause);
  }
}

async function* parseEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
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
