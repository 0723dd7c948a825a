const MOST_LINKS = 100;
const PAGE_OF_POSTS = 12;
const KEPT_KEY = "api-key";
const LONGEST_WAIT = 10;
const LONGEST_PAUSE = 30;
const STATES = { queued: "Waiting", running: "Downloading", done: "Done", failed: "Failed", cancelled: "Cancelled" };

const at = (id) => document.getElementById(id);
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An answer that is an error, or none at all (status 0). */
class Failure extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// ---- talking to the server

function headers() {
  const key = at("key").value.trim();
  return key ? { "X-API-Key": key } : {};
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch {
    throw new Failure(0, "The server does not answer");
  }
  if (response.ok) {
    return response;
  }
  const body = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After")) || null;
  throw new Failure(response.status, body.error ?? response.statusText, seconds);
}

/** A request that only reads: where the rate limit asks to wait, that is done here. */
async function read(path, options) {
  for (;;) {
    try {
      return await request(path, options);
    } catch (failure) {
      if (failure.status !== 429 || !failure.retryAfter || failure.retryAfter > LONGEST_WAIT) {
        throw failure;
      }
      await wait(failure.retryAfter);
    }
  }
}

const readJSON = async (path) => (await read(path)).json();

/** The events of a job, to its end; a stream that breaks is taken up after the last one seen. */
async function* eventsOf(job) {
  let last = "";
  for (let pause = 1; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      const response = await read(`/jobs/${job.id}/events`, {
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
      if (failure.status && failure.status < 500 && failure.status !== 429) {
        throw failure.status === 404 ? new Failure(410, "The server has forgotten this download") : failure;
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

/** Where the browser finds a file: a page cannot send the key along with a picture's address. */
async function sourceOf(path) {
  if (!at("key").value.trim()) {
    return path;
  }
  return URL.createObjectURL(await (await read(path)).blob());
}

// ---- what to tell

function advice({ status, message, retryAfter }) {
  const later = retryAfter ? `try again in ${duration(retryAfter)}` : "try again later";
  switch (status) {
    case 0:
      return "The server does not answer: check that it runs, then try again.";
    case 400:
      return message === "Invalid URL format"
        ? "This is not the link of an Instagram post: copy it from the post's share menu."
        : `${message}.`;
    case 401:
      return "The API key is missing or wrong: type it in the field above.";
    case 403:
      return message.endsWith("then try again")
        ? `${message}.`
        : `${message}. Who runs this server can give it a login (INSTAGRAM_SESSION_FILE).`;
    case 404:
      return "This post does not exist, or was removed: check the link.";
    case 410:
      return `${message}: send the link again.`;
    case 413:
      return "These are too many links at once: send fewer.";
    case 429:
      return message.startsWith("Too many requests")
        ? `This server limits how much you may ask: ${later}.`
        : `Instagram asks to wait: ${later}.`;
    case 502:
      return `${message}: try again, and if it stays so, this server may need an update.`;
    case 503:
      return `${message}: ${later}.`;
    default:
      return `${message}: ${later}.`;
  }
}

function duration(seconds) {
  if (seconds < 100) {
    return `${seconds} s`;
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = bytes ? Math.min(3, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${(bytes / 1000 ** power).toFixed(power > 1 ? 1 : 0)} ${units[power]}`;
}

function notice(failure) {
  const place = at("notice");
  place.hidden = !failure;
  place.textContent = failure ? advice(failure) : "";
  if (failure?.status === 401) {
    at("key-box").open = true;
    at("key").focus();
  }
}

/** Do *work* and tell of its failure; *anew*, as on a press of a button, hides the last one. */
async function guarded(work, anew = true) {
  if (anew) {
    notice(null);
  }
  try {
    await work();
  } catch (failure) {
    if (!(failure instanceof Failure)) {
      throw failure;
    }
    notice(failure);
  }
}

// ---- making parts of the page

function copyOf(template) {
  return at(template).content.firstElementChild.cloneNode(true);
}

function button(label, onClick, className = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = label;
  made.addEventListener("click", () => guarded(() => onClick(made)));
  return made;
}

async function save(path, name) {
  const link = document.createElement("a");
  link.href = await sourceOf(path);
  link.download = name;
  link.click();
}

async function preview(item, thumbnail, alt) {
  const made = document.createElement(item.type === "video" ? "video" : "img");
  if (item.type === "video") {
    made.controls = true;
    made.playsInline = true;
    made.preload = "metadata";
    made.setAttribute("aria-label", alt);
    if (thumbnail) {
      made.poster = await sourceOf(thumbnail.url);
    }
  } else {
    made.alt = alt;
    made.loading = "lazy";
  }
  made.src = await sourceOf(item.url);
  return made;
}

function actionsOf(post, remove) {
  const many = post.media.length > 1;
  const actions = post.media.map((item, index) => {
    const label = many ? `Save ${index + 1}` : "Save";
    const made = button(label, () =>
      save(many ? `/download/${post.shortcode}?item=${index + 1}` : `/download/${post.shortcode}`,
        item.url.split("/").pop()));
    made.title = `${item.type}, ${size(item.size)}`;
    return made;
  });
  if (many) {
    actions.push(button("Save all as ZIP", () =>
      save(`/download/${post.shortcode}?archive=zip`, `${post.shortcode}.zip`)));
  }
  if (post.description) {
    actions.push(button("Copy caption", async (pressed) => {
      await copyText(post.description);
      pressed.textContent = "Copied";
    }));
  }
  if (remove) {
    actions.push(button("Delete", remove, "danger"));
  }
  return actions;
}

/** The clipboard is there on https and on localhost alone; elsewhere the old way still works. */
async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not allowed: the other way needs no permission.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

async function showPost(post, remove = null) {
  const made = copyOf("post-template");
  const name = made.querySelector(".name");
  name.textContent = post.owner ? `${post.owner}, ${post.shortcode}` : post.shortcode;
  name.href = `https://www.instagram.com/p/${post.shortcode}/`;
  made.querySelector(".when").textContent = new Date(post.taken_at).toLocaleDateString();
  made.querySelector(".caption").textContent = post.description;
  made.querySelector(".actions").append(...actionsOf(post, remove && (() => remove(made))));
  const place = made.querySelector(".media");
  if (post.media.length > 1) {
    place.classList.add("many");
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", `${post.media.length} files`);
  }
  const cover = post.media.find((item) => item.type === "video");
  for (const [index, item] of post.media.entries()) {
    const alt = `${item.type === "video" ? "Video" : "Picture"} ${index + 1} of ${post.media.length}, by ${post.owner}`;
    place.append(await preview(item, item === cover ? post.thumbnail : null, alt));
  }
  return made;
}

// ---- downloads

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
  // The total grows with each file of a carousel; a bar that goes back tells nothing.
  entry.share = post.state === "done" ? 1 : Math.max(entry.share, Math.min(share, 0.99));
  bar.value = entry.share;
  bar.hidden = post.state === "failed" || post.state === "cancelled";
  const percent = post.state === "running" && post.bytes_total ? `, ${Math.round(entry.share * 100)} %` : "";
  row.querySelector(".state").textContent = STATES[post.state] + percent;
  if (post.state === "failed") {
    showError(row, new Failure(post.status, post.error, post.retry_after));
  }
  if (post.state === "done" && !entry.shown) {
    entry.shown = true;
    try {
      row.querySelector(".result").append(await showPost(await readJSON(`/posts/${post.shortcode}`)));
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

async function submit() {
  const links = linksIn(at("links").value);
  if (!links.length) {
    at("links").focus();
    return;
  }
  while (links.length) {
    const urls = links.slice(0, MOST_LINKS);
    const response = await request("/jobs", { method: "POST", body: JSON.stringify({ urls }) });
    // Gone from the field as soon as they are taken: what is refused later is not sent twice.
    links.splice(0, urls.length);
    at("links").value = links.join("\n");
    keepKey();
    at("batch").hidden = false;
    const job = await response.json();
    guarded(async () => {
      await follow(job);
      await listStored();
    }, false);
  }
}

// ---- stored posts

let nextCursor = null;
let listing = 0;

async function listStored(cursor = null) {
  listing += 1;
  const mine = listing;
  const query = new URLSearchParams({ limit: PAGE_OF_POSTS });
  if (cursor) {
    query.set("cursor", cursor);
  }
  const page = await readJSON(`/posts?${query}`);
  if (mine !== listing) {
    return;
  }
  if (!cursor) {
    at("stored").replaceChildren();
  }
  nextCursor = page.next_cursor;
  at("more").hidden = !nextCursor;
  const places = page.posts.map(() => {
    const place = document.createElement("li");
    place.className = "card";
    return place;
  });
  at("stored").append(...places);
  showWhetherEmpty();
  for (const [index, post] of page.posts.entries()) {
    const place = places[index];
    place.append(await showPost(post, () => remove(post, place)));
  }
}

async function remove(post, place) {
  if (!confirm(`Delete ${post.shortcode} and its files?`)) {
    return;
  }
  try {
    await request(`/posts/${post.shortcode}`, { method: "DELETE" });
  } catch (failure) {
    // Somebody else was faster: what was wanted is so.
    if (failure.status !== 404) {
      throw failure;
    }
  }
  // Else the focus would fall to the top of the page.
  (place.nextElementSibling?.querySelector(".danger") ?? at("stored-title")).focus();
  place.remove();
  showWhetherEmpty();
}

function showWhetherEmpty() {
  at("empty").hidden = at("stored").childElementCount > 0;
}

// ---- the key

function keepKey() {
  try {
    if (at("keep").checked) {
      localStorage.setItem(KEPT_KEY, at("key").value.trim());
    } else {
      localStorage.removeItem(KEPT_KEY);
    }
  } catch {
    // A browser that forbids storage keeps nothing, which is no reason to fail.
    at("keep").checked = false;
  }
}

function restoreKey() {
  try {
    at("key").value = localStorage.getItem(KEPT_KEY) ?? "";
  } catch {
    at("key").value = "";
  }
  at("keep").checked = Boolean(at("key").value);
}

// ---- start

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const pressed = event.submitter ?? at("form").querySelector("button");
  pressed.disabled = true;
  guarded(submit).finally(() => {
    pressed.disabled = false;
  });
});
at("links").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});
at("keep").addEventListener("change", keepKey);
at("key").addEventListener("change", () => {
  keepKey();
  guarded(() => listStored());
});
at("more").addEventListener("click", async () => {
  at("more").disabled = true;
  await guarded(() => listStored(nextCursor));
  at("more").disabled = false;
});

restoreKey();
guarded(() => listStored());
