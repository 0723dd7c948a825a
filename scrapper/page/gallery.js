/** The grid of stored posts. Only visible tiles are in the document. */

import { quietly } from "./advice.js";
import { readJSON } from "./api.js";
import { byId, throttle } from "./dom.js";
import { isFiltered, query } from "./filters.js";
import { TEXTS } from "./texts.js";
import { draw } from "./tile.js";

const PAGE_SIZE = 100;
const GAP = 6;
const SMALLEST_TILE = 116;
const LARGEST_TILE = 250;

/** The posts in the order of the listing, each with only the data of its tile. */
let posts = [];
/** Posts that are about to be deleted. */
const hidden = new Set();
const tiles = new Map();
let cursor = null;
let currentListing = 0;
let loading = null;
let stale = false;
let loaded = false;
let shape = { columns: 2, size: 0 };
/**
 * The number of rows rendered above and below the window, so that scrolling and the keyboard find no
 * gaps; 0 at first.
 */
let overscan = 0;

/** The data of a post's tile: a few hundred bytes, so even 5,000 posts fit in memory. */
function summaryOf(post) {
  const { shortcode, owner, kept, media, missing, thumbnail_url: thumbnail } = post;
  const files = media.filter((item) => item.type !== "audio");
  return {
    shortcode,
    owner,
    kept,
    thumbnail,
    slides: files.length + missing.length,
    video: files[0]?.type === "video",
    caption: post.description.slice(0, 80),
  };
}

/** The visible posts, in order. */
export const listed = () => (hidden.size ? posts.filter((post) => !hidden.has(post.shortcode)) : posts);

async function fetchPage(limit, after) {
  const parameters = query();
  parameters.set("limit", limit);
  if (after) {
    parameters.set("cursor", after);
  }
  return readJSON(`posts?${parameters}`);
}

/** The number of posts that fill the window and one more row. */
function windowSize() {
  measure();
  const rows = Math.ceil(innerHeight / (shape.size + GAP)) + 1;
  return Math.min(PAGE_SIZE, shape.columns * rows);
}

/** Reload the listing from the start. */
export async function reload() {
  currentListing += 1;
  const generation = currentListing;
  loading = null;
  stale = false;
  byId("new-posts").hidden = true;
  const found = await fetchPage(windowSize(), null);
  if (generation !== currentListing) {
    return;
  }
  posts = found.posts.map(summaryOf);
  cursor = found.next_cursor;
  loaded = true;
  render();
}

/** Load the next page of the listing, if there is one. */
export function loadMore() {
  if (!cursor) {
    return null;
  }
  loading ??= (async () => {
    const generation = currentListing;
    try {
      const found = await fetchPage(PAGE_SIZE, cursor);
      if (generation === currentListing) {
        const known = new Set(posts.map((post) => post.shortcode));
        posts = [...posts, ...found.posts.map(summaryOf).filter((post) => !known.has(post.shortcode))];
        cursor = found.next_cursor;
      }
    } finally {
      if (generation === currentListing) {
        loading = null;
      }
    }
    render();
  })();
  return loading;
}

export async function loadAll() {
  while (cursor) {
    await loadMore();
  }
}

const isAtTop = () => byId("grid").getBoundingClientRect().top > -shape.size;

/** Insert new posts from the first page, in the server's order. */
async function refresh() {
  if (!isAtTop()) {
    // New posts would move the visible ones.
    stale = true;
    byId("new-posts").hidden = false;
    return;
  }
  const generation = currentListing;
  const found = await fetchPage(windowSize(), null);
  if (generation !== currentListing) {
    return;
  }
  const first = found.posts.map(summaryOf);
  const firstShortcodes = new Set(first.map((post) => post.shortcode));
  const overlaps = posts.some((post) => firstShortcodes.has(post.shortcode));
  if (!found.next_cursor || !overlaps) {
    posts = first;
    cursor = found.next_cursor;
  } else {
    posts = [...first, ...posts.filter((post) => !firstShortcodes.has(post.shortcode))];
  }
  stale = false;
  byId("new-posts").hidden = true;
  render();
}

const refreshSoon = throttle(() => quietly(refresh), 300);

/** Remove deleted posts from the listing. If they are stored again, they are shown again. */
export function drop(shortcodes) {
  const gone = new Set(shortcodes);
  posts = posts.filter((post) => !gone.has(post.shortcode));
  gone.forEach((shortcode) => hidden.delete(shortcode));
  render();
}

/** Apply a `post` event from the server. */
export function applyPostEvent({ shortcode, change }) {
  if (change === "removed") {
    drop([shortcode]);
  } else if (change === "changed" && posts.some((post) => post.shortcode === shortcode)) {
    quietly(async () => update(await readJSON(`posts/${shortcode}`).catch((failure) => {
      if (failure.code !== "not_stored") {
        throw failure;
      }
      return null;
    })));
  } else {
    refreshSoon();
  }
}

/** Update a listed post; null is ignored. */
export function update(post) {
  if (post) {
    posts = posts.map((known) => (known.shortcode === post.shortcode ? summaryOf(post) : known));
    render();
  }
}

export function setKept(shortcodes, kept) {
  const changed = new Set(shortcodes);
  posts = posts.map((post) => (changed.has(post.shortcode) ? { ...post, kept } : post));
  render();
}

/** Hide posts, as if they were deleted. */
export function hide(shortcodes) {
  shortcodes.forEach((shortcode) => hidden.add(shortcode));
  render();
}

export function unhide(shortcodes) {
  shortcodes.forEach((shortcode) => hidden.delete(shortcode));
  render();
}

/** The posts before and after a post in the listing; null where there is none. */
export function neighbours(shortcode) {
  const shown = listed();
  const index = shown.findIndex((post) => post.shortcode === shortcode);
  if (index > shown.length - 3) {
    loadMore();
  }
  return index < 0 ? [null, null] : [shown[index - 1] ?? null, shown[index + 1] ?? null];
}

/** Scroll a post's tile into view, and focus it. */
export function focusOn(shortcode) {
  const index = listed().findIndex((post) => post.shortcode === shortcode);
  if (index < 0) {
    byId("gallery-title").focus();
    return;
  }
  const row = Math.floor(index / shape.columns);
  const top = byId("grid").getBoundingClientRect().top + row * (shape.size + GAP);
  if (top < 0 || top + shape.size > innerHeight) {
    scrollBy(0, top - innerHeight / 2);
    placeTiles();
  }
  tiles.get(shortcode)?.querySelector("a").focus({ preventScroll: true });
}

function measure() {
  const width = byId("grid").clientWidth;
  const wanted = Math.min(LARGEST_TILE, Math.max(SMALLEST_TILE, width / 8));
  const columns = Math.max(2, Math.floor((width + GAP) / (wanted + GAP)));
  shape = { columns, size: (width - GAP * (columns - 1)) / columns };
}

/** Add visible tiles to the document, and remove the others. */
function placeTiles() {
  const shown = listed();
  const { columns, size } = shape;
  const step = size + GAP;
  const grid = byId("grid");
  const rows = Math.ceil(shown.length / columns);
  grid.style.height = `${Math.max(0, rows * step - GAP)}px`;
  const top = -grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step) - overscan);
  // The first row is rendered even if it is below the window, so that the keyboard can reach it.
  const last = Math.max(0, Math.floor((top + innerHeight) / step) + overscan);
  const wanted = new Set();
  let before = null;
  for (let index = first * columns; index < Math.min(shown.length, (last + 1) * columns); index += 1) {
    const post = shown[index];
    wanted.add(post.shortcode);
    const tile = draw(tiles.get(post.shortcode), post, index, shown.length);
    tiles.set(post.shortcode, tile);
    tile.style.width = tile.style.height = `${size}px`;
    tile.style.translate = `${(index % columns) * step}px ${Math.floor(index / columns) * step}px`;
    // The tiles are in the order of the listing, for keyboard navigation.
    const next = before ? before.nextElementSibling : grid.firstElementChild;
    if (tile !== next) {
      grid.insertBefore(tile, next);
    }
    before = tile;
  }
  for (const [shortcode, tile] of tiles) {
    // The focused tile stays, because otherwise the focus would move to the top of the page.
    if (!wanted.has(shortcode) && !(tile.contains(document.activeElement) && shown.some((post) => post.shortcode === shortcode))) {
      tiles.delete(shortcode);
      tile.remove();
      // Without this, the browser would load pictures that were scrolled past before the visible ones.
      tile.querySelector("img")?.removeAttribute("src");
    }
  }
  if (cursor && !loading && last >= rows - 2) {
    quietly(loadMore);
  }
  if (stale && isAtTop()) {
    refreshSoon();
  }
}

/** Redraw the grid. */
export function render() {
  measure();
  placeTiles();
  const empty = loaded && !listed().length && !cursor;
  byId("first-step").hidden = !empty || isFiltered();
  byId("nothing").hidden = !empty || !isFiltered();
  byId("filters").hidden = empty && !isFiltered();
  byId("owners").replaceChildren(
    ...[...new Set(posts.map((post) => post.owner).filter(Boolean))].slice(0, 100).map((name) => new Option(name)),
  );
}

export function watchGallery() {
  let scheduled = false;
  const onScroll = () => {
    if (!scheduled) {
      scheduled = true;
      requestAnimationFrame(() => {
        scheduled = false;
        placeTiles();
      });
    }
  };
  const renderAhead = () => {
    overscan = 2;
    onScroll();
  };
  addEventListener("scroll", renderAhead, { passive: true });
  byId("gallery").addEventListener("focusin", renderAhead);
  new ResizeObserver(() => {
    measure();
    onScroll();
  }).observe(byId("grid"));
  // If the content above the grid grows, other tiles become visible.
  new ResizeObserver(onScroll).observe(document.body);
  byId("new-posts").textContent = TEXTS.newPosts;
  byId("new-posts").addEventListener("click", () => {
    byId("gallery").scrollIntoView();
    placeTiles();
    byId("gallery-title").focus({ preventScroll: true });
  });
}
