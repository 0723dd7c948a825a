/** Links on their way to the server: in jobs of at most 100, as fast as its limit allows. */

import { report } from "./advice.js";
import { Failure, send } from "./api.js";
import { recall, remember } from "./storage.js";

const MOST_LINKS = 100;
const PLACE = "to-send";
// With these codes the server asks to try again later, and perhaps says when.
const LATER = new Set(["too_many_requests", "jobs_full", "jobs_unreachable", "server_full", "busy"]);
const PAUSE_MS = 5_000;

let entries = read();
let next = entries.length;
let timer = 0;
let sending = false;
let listeners = { changed: () => {}, accepted: () => {}, refused: () => {} };

// Only in this tab: two tabs must not send the same links.
function read() {
  try {
    return JSON.parse(recall(PLACE, "sessionStorage")) ?? [];
  } catch {
    return [];
  }
}

function save() {
  remember(PLACE, entries.length ? JSON.stringify(entries) : "", "sessionStorage");
  listeners.changed();
}

/** Unsent links in order, when they will be sent, and why not sooner. */
export const unsent = () => entries;

/**
 * *changed* is called when :func:`unsent` changes; *accepted* with each job that the server took;
 * *refused* with links that it did not accept.
 */
export function watchOutbox(watchers) {
  listeners = watchers;
  listeners.changed();
  pump();
}

/** Send *urls*, after *delay* seconds; returns a function that takes back the unsent ones. */
export function put(urls, keep, delay = 0) {
  const at = Date.now() + delay * 1000;
  const mine = [];
  for (let start = 0; start < urls.length; start += MOST_LINKS) {
    next += 1;
    mine.push({ id: `${Date.now()}-${next}`, urls: urls.slice(start, start + MOST_LINKS), keep, at, why: "", chosen: delay > 0 });
  }
  entries = [...entries, ...mine];
  save();
  pump();
  return () => mine.forEach(({ id }) => drop(id));
}

export function drop(id) {
  entries = entries.filter((entry) => entry.id !== id);
  save();
}

/** Send at once what waits only for a possible "Undo". */
export function hurry() {
  for (const entry of entries.filter((one) => one.chosen)) {
    Object.assign(entry, { at: 0, chosen: false });
  }
  pump();
}

/** Send what may be sent now, and the rest later. */
export async function pump() {
  clearTimeout(timer);
  const entry = entries[0];
  if (!entry || sending) {
    return;
  }
  const left = entry.at - Date.now();
  if (left > 0) {
    timer = setTimeout(pump, Math.min(left, 60_000));
    return;
  }
  sending = true;
  entry.chosen = false;
  let refusal = null;
  try {
    const response = await send("jobs", "POST", { urls: entry.urls, keep: entry.keep });
    drop(entry.id);
    listeners.accepted(await response.json());
  } catch (failure) {
    refusal = failure;
  } finally {
    sending = false;
  }
  if (refusal) {
    postpone(entry, refusal);
  } else {
    pump();
  }
}

function postpone(entry, failure) {
  if (failure.status === 401) {
    // The links are sent once somebody signs in.
    return;
  }
  if (failure instanceof Failure && (LATER.has(failure.code) || failure.away)) {
    const at = Date.now() + (failure.retryAfter ? failure.retryAfter * 1000 : PAUSE_MS);
    entries.forEach((one) => Object.assign(one, { at: Math.max(at, one.at), why: failure.away ? "" : failure.code }));
    save();
    pump();
    return;
  }
  drop(entry.id);
  listeners.refused(entry.urls);
  report(failure);
}
