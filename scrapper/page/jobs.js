/** The list of downloads: all jobs that this visitor may see, with one line per post or group of posts. */

import { advice, guarded, isRetryable } from "./advice.js";
import { Failure, readJSON, send } from "./api.js";
import { byId, cloneTemplate, icon, throttle } from "./dom.js";
import { drop, enqueue, unsent } from "./outbox.js";
import { openSettings } from "./settings.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const PAGE_SIZE = 50;
const MAX_JOBS = 200;
const MAX_LINES = 6;

const jobs = new Map();
/** The IDs of the jobs that this page created, until it has reported their outcome. */
const own = new Set();
/**
 * The progress of each line. A carousel's total grows with each of its files, but its progress bar must
 * not move back.
 */
const shares = new Map();
const lines = new Map();

let openPost = () => {};
let loggedIn = false;
let expanded = false;

const canBeCancelled = (post) => post.state === "queued" || post.state === "waiting";
const keyOf = (post) => post.shortcode ?? post.url;
const mayRetry = (post) => isRetryable(post.code) || (post.code === "login_required" && loggedIn);

/** Reload the list of jobs. */
export async function loadJobs() {
  const found = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: PAGE_SIZE, ...(cursor && { cursor }) });
    const page = await readJSON(`jobs?${query}`);
    found.push(...page.jobs);
    cursor = page.next_cursor;
  } while (cursor && found.length < MAX_JOBS);
  jobs.clear();
  found.reverse().forEach((job) => jobs.set(job.id, job));
  own.forEach(finish);
  show();
}

/** Apply a `job` event, or a new job. *mine* is true if this page created the job. */
export function applyJob(change, mine = false) {
  if (change.forgotten) {
    jobs.delete(change.id);
    own.delete(change.id);
  } else {
    const known = jobs.get(change.id);
    if (mine) {
      own.add(change.id);
    }
    // Events may arrive before the response to the request that created the job.
    if (!mine || !known) {
      const posts = known?.posts ?? [];
      for (const [place, { index = place, ...post }] of change.posts.entries()) {
        posts[index] = post;
      }
      jobs.set(change.id, { ...change, posts });
    }
    finish(change.id);
  }
  show();
}

/** Report the outcome of a job that this page created, if the job has ended. */
function finish(id) {
  const job = jobs.get(id);
  if (!job || job.state === "running" || !own.delete(id)) {
    return;
  }
  const done = job.posts.filter((post) => post.state === "done");
  const failed = job.posts.filter((post) => post.state === "failed");
  if (failed.length) {
    const reason = failed.length === 1 ? advice(failureOf(failed[0])) : "";
    toast(TEXTS.failedOf(failed.length, job.posts.length, reason), { error: true });
  }
  if (done.length) {
    toast(TEXTS.ready(done.length), {
      action: done.length === 1 ? TEXTS.open : "",
      act: () => openPost(done[0].shortcode),
    });
  }
}

const failureOf = (post) => new Failure(post.status, post.code, post.error, post.retry_after);

/**
 * The jobs, newest first. Jobs of the same second are sorted correctly because a map keeps its insertion
 * order.
 */
const newestFirst = () =>
  [...jobs.values()].reverse().sort((one, other) => other.created_at.localeCompare(one.created_at));

/** The lines of the list in order: failed, waiting, running, queued, unsent, and cancelled posts. */
function linesOf() {
  const found = unsent().map((entry) => ({
    key: `unsent ${entry.id}`,
    rank: 4,
    state: "unsent",
    name: TEXTS.group(entry.urls.map(TEXTS.nameOfLink)),
    text: TEXTS.unsent(entry),
    actions: [[TEXTS.cancel, () => drop(entry.id)]],
  }));
  const seen = new Set();
  for (const job of newestFirst()) {
    const fresh = job.posts.filter((post) => !seen.has(keyOf(post)));
    job.posts.forEach((post) => seen.add(keyOf(post)));
    found.push(...linesOfJob(job, fresh));
  }
  return found.sort((one, other) => one.rank - other.rank);
}

function actionsFor(post, keep) {
  if (mayRetry(post)) {
    return [[TEXTS.retry, () => void enqueue([post.url], keep)]];
  }
  return post.code === "login_required" ? [[TEXTS.logIn, openSettings]] : [];
}

function* linesOfJob(job, posts) {
  for (const post of posts) {
    const line = { key: `${job.id} ${keyOf(post)}`, name: TEXTS.nameOfLink(post.url), link: post.url, state: post.state };
    if (post.state === "running") {
      const share = Math.min(post.bytes_total ? post.bytes_done / post.bytes_total : 0, 0.99);
      line.share = Math.max(shares.get(line.key) ?? 0, share);
      shares.set(line.key, line.share);
      yield { ...line, rank: 2, text: TEXTS.running(post.bytes_total ? Math.round(line.share * 100) : null) };
    } else {
      shares.delete(line.key);
    }
    if (post.state === "failed") {
      yield { ...line, rank: 0, text: advice(failureOf(post)), actions: actionsFor(post, job.keep) };
    }
  }
  const waiting = posts.filter(canBeCancelled);
  const cancelled = posts.filter((post) => post.state === "cancelled");
  if (waiting.length) {
    const waits = waiting.some((post) => post.state === "waiting");
    yield {
      key: `${job.id} next`,
      rank: waits ? 1 : 3,
      state: waits ? "waiting" : "queued",
      name: TEXTS.group(waiting.map((post) => TEXTS.nameOfLink(post.url))),
      text: TEXTS.next(waiting),
      actions: [[TEXTS.cancel, () => cancel([job])]],
    };
  }
  if (cancelled.length) {
    yield {
      key: `${job.id} cancelled`,
      rank: 5,
      state: "cancelled",
      name: TEXTS.group(cancelled.map((post) => TEXTS.nameOfLink(post.url))),
      text: TEXTS.cancelled,
      actions: [[TEXTS.retry, () => void enqueue(cancelled.map((post) => post.url), job.keep)]],
    };
  }
}

const SYMBOLS = { failed: "alert", waiting: "clock", running: "down", queued: "dots", unsent: "dots", cancelled: "close" };

function draw(line) {
  const row = lines.get(line.key) ?? cloneTemplate("line-template");
  lines.set(line.key, row);
  const { version } = row;
  row.version = JSON.stringify(line);
  if (version === row.version) {
    return row;
  }
  row.dataset.state = line.state;
  row.querySelector(".symbol").replaceChildren(icon(SYMBOLS[line.state]));
  const name = row.querySelector(".name");
  name.textContent = line.name;
  if (line.link && URL.canParse(line.link) && /^https:/.test(line.link)) {
    name.href = line.link;
  } else {
    name.removeAttribute("href");
  }
  row.querySelector(".state").textContent = line.text;
  const bar = row.querySelector("progress");
  bar.hidden = line.state !== "running";
  bar.value = line.share ?? 0;
  bar.setAttribute("aria-label", TEXTS.downloadOf(line.name));
  const wanted = line.actions ?? [];
  const actions = row.querySelector(".line-actions");
  row.handlers = wanted.map(([, act]) => act);
  if (wanted.map(([label]) => label).join() !== [...actions.children].map((button) => button.textContent).join()) {
    actions.replaceChildren(...wanted.map(([label], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.textContent = label;
      button.setAttribute("aria-label", `${label}: ${line.name}`);
      button.addEventListener("click", () => guarded(() => row.handlers[index]()));
      return button;
    }));
  }
  return row;
}

function render() {
  const all = linesOf();
  const keys = new Set(all.map((line) => line.key));
  for (const [key, row] of lines) {
    if (!keys.has(key)) {
      lines.delete(key);
      const focused = row.contains(document.activeElement);
      row.remove();
      if (focused) {
        byId("running-title").focus();
      }
    }
  }
  const shown = expanded ? all : all.slice(0, MAX_LINES);
  const rows = shown.map(draw);
  const list = byId("lines");
  rows.forEach((row, index) => {
    if (list.children[index] !== row) {
      list.insertBefore(row, list.children[index] ?? null);
    }
  });
  [...list.children].slice(rows.length).forEach((row) => row.remove());
  byId("running").hidden = !all.length;
  byId("more-lines").hidden = all.length <= MAX_LINES;
  byId("more-lines").textContent = expanded ? TEXTS.fewerLines : TEXTS.moreLines(all.length - MAX_LINES);
  byId("more-lines").setAttribute("aria-expanded", String(expanded));
  const posts = [...jobs.values()].filter((job) => job.state === "running").flatMap((job) => job.posts);
  const count = (state) => posts.filter((post) => post.state === state).length;
  const failures = all.filter((line) => line.state === "failed").length;
  byId("summary").textContent = TEXTS.summary({
    unsent: unsent().reduce((sum, { urls }) => sum + urls.length, 0),
    done: count("done"),
    all: posts.length,
    waiting: count("waiting"),
    failed: failures,
  });
  byId("retry-all").hidden = retries().length < 2;
  const cancellableCount = cancellable().length + unsent().length;
  // If only one line can be cancelled, its own button suffices, provided that the line is shown.
  byId("cancel-all").hidden = cancellableCount < (all.length > MAX_LINES ? 1 : 2);
  byId("clear").hidden = !all.some((line) => line.state === "failed" || line.state === "cancelled");
}

/** Redraw the list, throttled because many events may arrive at once. */
export const show = throttle(render, 100);

export function setLogin({ state }) {
  loggedIn = state === "active";
  show();
}

const cancellable = () => [...jobs.values()].filter((job) => job.posts.some(canBeCancelled));

async function cancel(which) {
  for (const job of which) {
    applyJob(await (await send(`jobs/${job.id}`, "DELETE")).json());
  }
}

/** The links of failed posts that can succeed on a retry, each with its job's `keep`. */
function retries() {
  const seen = new Set();
  const found = [];
  for (const { keep, posts } of newestFirst()) {
    for (const post of posts.filter((one) => !seen.has(keyOf(one)))) {
      seen.add(keyOf(post));
      if (post.state === "failed" && mayRetry(post)) {
        found.push({ url: post.url, keep });
      }
    }
  }
  return found;
}

/** Retry all failed posts that can succeed. */
function retryAll() {
  for (const kept of [true, false]) {
    enqueue(retries().filter(({ keep }) => keep === kept).map(({ url }) => url), kept);
  }
}

/** Remove finished jobs from the server's list. */
async function clear() {
  for (const job of [...jobs.values()].filter((one) => one.state !== "running")) {
    try {
      await send(`jobs/${job.id}?forget=1`, "DELETE");
    } catch (failure) {
      // Another client has already removed the job.
      if (failure.code !== "not_found") {
        throw failure;
      }
    }
    applyJob({ id: job.id, forgotten: true });
  }
}

/** Connect the buttons; *open* shows a stored post. */
export function watchJobs(open) {
  openPost = open;
  byId("retry-all").addEventListener("click", retryAll);
  byId("cancel-all").addEventListener("click", () => guarded(async () => {
    unsent().map(({ id }) => id).forEach(drop);
    await cancel(cancellable());
  }));
  byId("clear").addEventListener("click", () => guarded(clear));
  byId("more-lines").addEventListener("click", () => {
    expanded = !expanded;
    render();
  });
}
