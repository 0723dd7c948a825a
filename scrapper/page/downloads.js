/** Batches of links: sending them, their progress, and what can be done about those that failed. */

import { Failure, readJSON, request } from "./api.js";
import { advice, guarded } from "./advice.js";
import { button, copyButton } from "./buttons.js";
import { at, copyOf } from "./dom.js";
import { eventsOf } from "./events.js";
import { showPost } from "./post.js";
import { listStored } from "./posts.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";

const MOST_LINKS = 100;
const REMEMBERED = "jobs";
const MOST_REMEMBERED = 50;

function linksIn(text) {
  const found = text.match(/(?:https?:\/\/|(?:www\.)?instagram\.com\/)[^\s,;<>"']+/gi);
  // A text without any link goes to the server as it is: the server says best what is wrong.
  const links = found?.map((link) => link.replace(/[.!?)\]]+$/, "")) ?? text.split(/[\s,;]+/).filter(Boolean);
  return [...new Set(links)].map((link) => (/^(www\.)?instagram\.com\//i.test(link) ? `https://${link}` : link));
}

/** The jobs whose end this browser has not seen. */
const remembered = () => (recall(REMEMBERED) ?? "").split(" ").filter(Boolean);
const rememberJob = (id) => remember(REMEMBERED, [...new Set([...remembered(), id])].slice(-MOST_REMEMBERED).join(" "));
const forgetJob = (id) => remember(REMEMBERED, remembered().filter((known) => known !== id).join(" "));

/** A job, and the row of each of its posts; a post that is tried again alone leaves its batch. */
class Batch {
  constructor(job, rows = null) {
    this.job = job;
    this.rows = rows ?? job.posts.map(rowFor);
  }

  get posts() {
    return this.job.posts.filter((_, index) => this.rows[index]);
  }

  show() {
    return Promise.all(this.job.posts.map((post, index) => this.update(index, post)));
  }

  async update(index, post) {
    this.job.posts[index] = post;
    if (this.rows[index]) {
      await showState(this.rows[index], post, () => retry(this, index));
    }
  }

  async follow() {
    rememberJob(this.job.id);
    const updates = [this.show()];
    summarise();
    for await (const event of eventsOf(this.job)) {
      if (event.event === "post") {
        const post = JSON.parse(event.data);
        updates.push(this.update(post.index, post));
        summarise();
      }
    }
    await Promise.all(updates);
    forgetJob(this.job.id);
  }
}

const batches = new Set();

const hasFailed = (post) => post.state === "failed" || post.state === "cancelled";
const isUnfinished = (post) => post.state !== "done" && !hasFailed(post);

function rowFor(post) {
  const row = copyOf("progress-template");
  row.querySelector(".name").textContent = post.shortcode ?? post.url;
  row.querySelector("progress").setAttribute("aria-label", TEXTS.downloadOf(post.shortcode ?? post.url));
  return { row, share: 0, shown: false };
}

function showError(row, failure) {
  if (!(failure instanceof Failure)) {
    throw failure;
  }
  const error = row.querySelector(".error");
  error.hidden = false;
  error.textContent = advice(failure);
}

async function showState(entry, post, retryPost) {
  const { row } = entry;
  const bar = row.querySelector("progress");
  const share = post.bytes_total ? post.bytes_done / post.bytes_total : 0;
  // The total grows with each file of a carousel; a bar that goes back says nothing.
  entry.share = post.state === "done" ? 1 : Math.max(entry.share, Math.min(share, 0.99));
  bar.value = entry.share;
  const failed = hasFailed(post);
  bar.hidden = failed;
  const percent = post.bytes_total ? Math.round(entry.share * 100) : null;
  row.querySelector(".state").textContent = TEXTS.states[post.state](post, percent);
  row.querySelector(".error").hidden = true;
  const actions = row.querySelector(".row-actions");
  actions.hidden = !failed;
  if (failed && !actions.childElementCount) {
    actions.append(button(TEXTS.retry, retryPost), copyButton(TEXTS.copyLink, post.url));
  }
  if (!failed) {
    actions.replaceChildren();
  }
  if (post.state === "failed") {
    showError(row, new Failure(post.status, post.code, post.error, post.retry_after));
  }
  if (post.state === "done" && !entry.shown) {
    entry.shown = true;
    try {
      row.querySelector(".result").append(showPost(await readJSON(`posts/${post.shortcode}`)));
      row.querySelector(".row").hidden = true;
      bar.hidden = true;
    } catch (failure) {
      showError(row, failure);
    }
  }
}

function summarise() {
  const posts = [...batches].flatMap((batch) => batch.posts);
  const count = (state) => posts.filter((post) => post.state === state).length;
  at("summary").textContent = TEXTS.summary(count("done"), posts.length, count("failed"), count("waiting"));
  at("retry-all").hidden = posts.filter(hasFailed).length < 2;
}

function begin(batch) {
  batches.add(batch);
  at("batch").hidden = false;
  const fresh = batch.rows.filter((entry) => entry && !entry.row.isConnected);
  at("progress").prepend(...fresh.map((entry) => entry.row));
  guarded(async () => {
    await batch.follow();
    await listStored();
  }, false);
}

const send = async (urls, keep) =>
  (await request("jobs", { method: "POST", body: JSON.stringify({ urls, keep }) })).json();

/** Try one post again, in a job of its own and in its old row. */
async function retry(batch, index) {
  const job = await send([batch.job.posts[index].url], batch.job.keep);
  const entry = batch.rows[index];
  batch.rows[index] = null;
  forgetOutcome(entry);
  begin(new Batch(job, [entry]));
}

/** Let a row begin anew; its buttons belong to the batch that it leaves. */
function forgetOutcome(entry) {
  entry.share = 0;
  entry.row.querySelector(".row-actions").replaceChildren();
}

/** Try everything again that failed. */
export async function retryAll() {
  for (const batch of batches) {
    if (!batch.posts.some(hasFailed)) {
      continue;
    }
    const runs = batch.posts.some(isUnfinished);
    const response = await request(`jobs/${batch.job.id}/retry`, { method: "POST" });
    batch.rows.filter(Boolean).forEach(forgetOutcome);
    batch.job = await response.json();
    if (runs) {
      // Its events still come.
      await batch.show();
      summarise();
    } else {
      begin(batch);
    }
  }
}

const resuming = new Set();

/** Show the batches again that were under way when the page was left. */
export async function resume() {
  for (const id of remembered()) {
    if (resuming.has(id) || [...batches].some((batch) => batch.job.id === id)) {
      continue;
    }
    resuming.add(id);
    try {
      begin(new Batch(await readJSON(`jobs/${id}`)));
    } catch (failure) {
      if (failure.code !== "not_found") {
        throw failure;
      }
      forgetJob(id);
    } finally {
      resuming.delete(id);
    }
  }
}

/** Send the links of the field. */
export async function submit() {
  const links = linksIn(at("links").value);
  if (!links.length) {
    at("links").focus();
    return;
  }
  // What is typed meanwhile would be lost.
  at("links").readOnly = true;
  try {
    while (links.length) {
      const urls = links.slice(0, MOST_LINKS);
      const job = await send(urls, at("keep-new").checked);
      // Accepted links leave the field at once: if a later batch is refused, they are not sent twice.
      links.splice(0, urls.length);
      at("links").value = links.join("\n");
      begin(new Batch(job));
    }
  } finally {
    at("links").readOnly = false;
  }
}
