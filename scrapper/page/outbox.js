/** Sends links to the server in jobs of at most 100, as fast as its rate limit allows. */

import { report } from "./advice.js";
import { Failure, send } from "./api.js";
import { recall, remember } from "./storage.js";

const MAX_LINKS = 100;
const STORAGE_KEY = "to-send";
// After an error with one of these codes, the request can be retried.
const RETRYABLE = new Set(["too_many_requests", "jobs_full", "jobs_unreachable", "server_full", "busy"]);
const PAUSE_MS = 5_000;

let entries = read();
let counter = entries.length;
let timer = 0;
let sending = false;
let listeners = { changed: () => {}, accepted: () => {}, refused: () => {} };

// The session storage belongs to one tab, so two tabs never send the same links.
function read() {
  try {
    return JSON.parse(recall(STORAGE_KEY, "sessionStorage")) ?? [];
  } catch {
    return [];
  }
}

function save() {
  remember(STORAGE_KEY, entries.length ? JSON.stringify(entries) : "", "sessionStorage");
  listeners.changed();
}

/** The unsent links in order, each group with the time when it is due and the reason for the delay. */
export const unsent = () => entries;

/**
 * Start sending. *changed* is called when `unsent()` changes, *accepted* with each job that the server
 * accepts, and *refused* with links that the server refuses.
 */
export function watchOutbox(watchers) {
  listeners = watchers;
  listeners.changed();
  flush();
}

/** Send *urls* after *delay* seconds. Returns a function that cancels those that have not been sent yet. */
export function enqueue(urls, keep, delay = 0) {
  const dueAt = Date.now() + delay * 1000;
  const added = [];
  for (let start = 0; start < urls.length; start += MAX_LINKS) {
    counter += 1;
    added.push({ id: `${Date.now()}-${counter}`, urls: urls.slice(start, start + MAX_LINKS), keep, dueAt, reason: "", undoable: delay > 0 });
  }
  entries = [...entries, ...added];
  save();
  flush();
  return () => added.forEach(({ id }) => drop(id));
}

export function drop(id) {
  entries = entries.filter((entry) => entry.id !== id);
  save();
}

/** Send the links that are waiting only because they can still be undone. */
export function sendNow() {
  for (const entry of entries.filter((one) => one.undoable)) {
    Object.assign(entry, { dueAt: 0, undoable: false });
  }
  flush();
}

/** Send the links that are due, and schedule the rest. */
export async function flush() {
  clearTimeout(timer);
  const entry = entries[0];
  if (!entry || sending) {
    return;
  }
  const remaining = entry.dueAt - Date.now();
  if (remaining > 0) {
    timer = setTimeout(flush, Math.min(remaining, 60_000));
    return;
  }
  sending = true;
  entry.undoable = false;
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
    flush();
  }
}

function postpone(entry, failure) {
  if (failure.status === 401) {
    // The links are sent once the visitor signs in.
    return;
  }
  if (failure instanceof Failure && (RETRYABLE.has(failure.code) || failure.unreachable)) {
    const dueAt = Date.now() + (failure.retryAfter ? failure.retryAfter * 1000 : PAUSE_MS);
    entries.forEach((one) => Object.assign(one, { dueAt: Math.max(dueAt, one.dueAt), reason: failure.unreachable ? "" : failure.code }));
    save();
    flush();
    return;
  }
  drop(entry.id);
  listeners.refused(entry.urls);
  report(failure);
}
