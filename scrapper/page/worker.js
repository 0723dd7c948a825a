/**
 * The service worker: the page starts even without its server. It keeps the page's own files, never
 * posts. The network comes first; kept files answer when the server is away.
 */

const CACHE = "shell";
const SHELL = [
  "./",
  "advice.js",
  "api.js",
  "bulk.js",
  "caption.js",
  "chosen.js",
  "clipboard.js",
  "deletion.js",
  "dom.js",
  "events.js",
  "field.js",
  "filters.js",
  "gallery.js",
  "icon-192.png",
  "icon-512.png",
  "icon-maskable-512.png",
  "jobs.js",
  "links.js",
  "login.js",
  "outbox.js",
  "page.css",
  "page.js",
  "page.svg",
  "page.webmanifest",
  "saving.js",
  "selection.js",
  "session.js",
  "settings.js",
  "standing.js",
  "storage.js",
  "texts.js",
  "tile.js",
  "toast.js",
  "viewer.js",
].map((name) => new URL(name, self.registration.scope).href);
// Statuses of a proxy in front while its server is away.
const AWAY = new Set([502, 503, 504]);

/** The kept file that answers a request; all addresses of the page share one. */
const keyOf = (url) => url.split(/[?#]/)[0];

const isOurs = (response) => response.status === 200 && response.type === "basic" && !response.redirected;

async function keep(key, response) {
  await (await caches.open(CACHE)).put(key, response);
}

async function install() {
  const answers = await Promise.all(SHELL.map(async (url) => [url, await fetch(url, { cache: "no-cache" })]));
  await Promise.all(answers.filter(([, response]) => isOurs(response)).map(([url, response]) => keep(url, response)));
  await self.skipWaiting();
}

/** If this worker's own file is gone, something else has the address: remove everything. */
async function leaveIfGone() {
  const answer = await fetch(self.location.href, { cache: "no-store" }).catch(() => null);
  if (answer?.status === 404 || answer?.status === 410) {
    await caches.delete(CACHE);
    await self.registration.unregister();
  }
}

async function answer(event) {
  const key = keyOf(event.request.url);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    const kept = await caches.match(key);
    if (kept) {
      return kept;
    }
    throw error;
  }
  if (isOurs(response)) {
    event.waitUntil(keep(key, response.clone()));
  }
  return (AWAY.has(response.status) && (await caches.match(key))) || response;
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  if (method !== "GET" || !SHELL.includes(keyOf(url))) {
    return;
  }
  event.respondWith(answer(event));
  if (mode === "navigate") {
    event.waitUntil(leaveIfGone());
  }
});
