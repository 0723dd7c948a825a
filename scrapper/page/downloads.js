/** Batches of links: sending them, and their progress. */

import { Failure, readJSON, request } from "./api.js";
import { advice, guarded } from "./advice.js";
import { at, copyOf } from "./dom.js";
import { eventsOf } from "./events.js";
import { listStored, showPost } from "./posts.js";

const MOST_LINKS = 100;
const STATES = { queued: "Waiting", running: "Downloading", done: "Done", failed: "Failed", cancelled: "Cancelled" };

function linksIn(text) {
  const found = text.match(/(?:https?:\/\/|(?:www\.)?instagram\.com\/)[^\s,;<>"']+/gi);
  // What holds no link at all goes to the server as it is: it says best what is wrong with it.
  const links = found?.map((link) => link.replace(/[.!?)\]]+$/, "")) ?? text.split(/[\s,;]+/).filter(Boolean);
  return [...new Set(links)].map((link) => (/^(www\.)?instagram\.com\//i.test(link) ? `https://${link}` : link));
}

function rowFor(post) {
  const row = copyOf("progress-template");
  row.querySelector(".name").textContent = post.shortcode ?? post.url;
  row.querySelector("progress").setAttribute("aria-label", `Download of ${post.shortcode ?? post.url}`);
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

async function update(entry, post) {
  const { row } = entry;
  const bar = row.querySelector("progress");
  const share = post.bytes_total ? post.bytes_done / post.bytes_total : 0;
  // The total grows with each file of a carousel; a bar that goes back says nothing.
  entry.share = post.state === "done" ? 1 : Math.max(entry.share, Math.min(share, 0.99));
  bar.value = entry.share;
  bar.hidden = post.state === "failed" || post.state === "cancelled";
  const percent = post.state === "running" && post.bytes_total ? `, ${Math.round(entry.share * 100)} %` : "";
  row.querySelector(".state").textContent = STATES[post.state] + percent;
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

const followed = new Set();

function summarise() {
  const posts = [...followed].flatMap((job) => job.posts);
  const count = (state) => posts.filter((post) => post.state === state).length;
  const failed = count("failed");
  at("summary").textContent = `${count("done")} of ${posts.length} done` + (failed ? `, ${failed} failed` : "");
}

async function follow(job) {
  const entries = job.posts.map(rowFor);
  at("progress").prepend(...entries.map((entry) => entry.row));
  followed.add(job);
  const updates = job.posts.map((post, index) => update(entries[index], post));
  summarise();
  for await (const event of eventsOf(job)) {
    if (event.event === "post") {
      const post = JSON.parse(event.data);
      job.posts[post.index] = post;
      updates.push(update(entries[post.index], post));
      summarise();
    }
  }
  await Promise.all(updates);
}

/** Send the links of the field. */
export async function submit() {
  const links = linksIn(at("links").value);
  if (!links.length) {
    at("links").focus();
    return;
  }
  while (links.length) {
    const urls = links.slice(0, MOST_LINKS);
    const response = await request("jobs", { method: "POST", body: JSON.stringify({ urls }) });
    // Gone from the field as soon as they are taken: what is refused later is not sent twice.
    links.splice(0, urls.length);
    at("links").value = links.join("\n");
    at("batch").hidden = false;
    const job = await response.json();
    guarded(async () => {
      await follow(job);
      await listStored();
    }, false);
  }
}
