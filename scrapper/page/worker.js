/**
 * The service worker, which lets the page open while its server is unreachable. It caches the page's own
 * files, never posts. Requests go to the network first, and the cache is used only if the server is
 * unreachable.
 */

const CACHE = "shell";
const SHELL = [
  "./",
  "advice.js",
  "api.js",
  "bulk.js",
  "caption.js",
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
  "selected.js",
  "selection.js",
  "session.js",
  "settings.js",
  "status.js",
  "storage.js",
  "texts.js",
  "tile.js",
  "toast.js",
  "viewer.js",
].map((name) => new URL(name, self.registration.scope).href);
// Statuses that a proxy returns while the server is unreachable.
const UNREACHABLE = new Set([502, 503, 504]);

/** The cache key of a request: its URL without query and fragment. */
const keyOf = (url) => url.split(/[?#]/)[0];

const isCacheable = (response) => response.status === 200 && response.type === "basic" && !response.redirected;

async function store(key, response) {
  await (await caches.open(CACHE)).put(key, response);
}

async function install() {
  const answers = await Promise.all(SHELL.map(async (url) => [url, await fetch(url, { cache: "no-cache" })]));
  await Promise.all(answers.filter(([, response]) => isCacheable(response)).map(([url, response]) => store(url, response)));
  await self.skipWaiting();
}

/**
 * If this worker's own file is gone, the address now belongs to another application: unregister, and
 * delete the cache.
 */
async function unregisterIfGone() {
  const answer = await fetch(self.location.href, { cache: "no-store" }).catch(() => null);
  if (answer?.status === 404 || answer?.status === 410) {
    await caches.delete(CACHE);
    await self.registration.unregister();
  }
}

async function respond(event) {
  const key = keyOf(event.request.url);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    const cached = await caches.match(key);
    if (cached) {
      return cached;
    }
    throw error;
  }
  if (isCacheable(response)) {
    event.waitUntil(store(key, response.clone()));
  }
  return (UNREACHABLE.has(response.status) && (await caches.match(key))) || response;
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  if (method !== "GET" || !SHELL.includes(keyOf(url))) {
    return;
  }
  event.respondWith(respond(event));
  if (mode === "navigate") {
    event.waitUntil(unregisterIfGone());
  }
});
