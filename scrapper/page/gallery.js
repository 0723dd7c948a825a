/** The stored posts as a grid; only tiles in view are in the document. */

import { quietly } from "./advice.js";
import { readJSON } from "./api.js";
import { at, soon } from "./dom.js";
import { chooses, query } from "./filters.js";
import { TEXTS } from "./texts.js";
import { draw } from "./tile.js";

const AT_ONCE = 100;
const GAP = 6;
const SMALLEST_TILE = 116;
const LARGEST_TILE = 250;

/** The posts in the order of the listing; each has only what its tile shows. */
let posts = [];
/** Posts that are about to be deleted. */
const hidden = new Set();
const tiles = new Map();
let cursor = null;
let listing = 0;
let loading = null;
let stale = false;
let loaded = false;
let shape = { columns: 2, size: 0 };
/** Rows beyond the window, so that scrolling and the keyboard meet no holes; none for the first view. */
let beyond = 0;

/** What the tile of a post needs: a few hundred bytes, so even 5,000 posts fit. */
function slim(post) {
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

/** The posts that are shown, in order. */
export const listed = () => (hidden.size ? posts.filter((post) => !hidden.has(post.shortcode)) : posts);

async function page(limit, after) {
  const asked = query();
  asked.set("limit", limit);
  if (after) {
    asked.set("cursor", after);
  }
  return readJSON(`posts?${asked}`);
}

/** As many posts as fill the window, and a row or two more. */
function windowful() {
  measure();
  const rows = Math.ceil(innerHeight / (shape.size + GAP)) + 1;
  return Math.min(AT_ONCE, shape.columns * rows);
}

/** List anew, from the start. */
export async function list() {
  listing += 1;
  const mine = listing;
  loading = null;
  stale = false;
  at("new-posts").hidden = true;
  const found = await page(windowful(), null);
  if (mine !== listing) {
    return;
  }
  posts = found.posts.map(slim);
  cursor = found.next_cursor;
  loaded = true;
  render();
}

/** The next posts of the listing, if there are any. */
export function more() {
  if (!cursor) {
    return null;
  }
  loading ??= (async () => {
    const mine = listing;
    try {
      const found = await page(AT_ONCE, cursor);
      if (mine === listing) {
        const known = new Set(posts.map((post) => post.shortcode));
        posts = [...posts, ...found.posts.map(slim).filter((post) => !known.has(post.shortcode))];
        cursor = found.next_cursor;
      }
    } finally {
      if (mine === listing) {
        loading = null;
      }
    }
    render();
  })();
  return loading;
}

export async function loadAll() {
  while (cursor) {
    await more();
  }
}

const isAtTop = () => at("grid").getBoundingClientRect().top > -shape.size;

/** Insert new posts of the first page in the server's order. */
async function refresh() {
  if (!isAtTop()) {
    // Posts in view must not move away.
    stale = true;
    at("new-posts").hidden = false;
    return;
  }
  const mine = listing;
  const found = await page(windowful(), null);
  if (mine !== listing) {
    return;
  }
  const first = found.posts.map(slim);
  const fresh = new Set(first.map((post) => post.shortcode));
  const knows = posts.some((post) => fresh.has(post.shortcode));
  if (!found.next_cursor || !knows) {
    posts = first;
    cursor = found.next_cursor;
  } else {
    posts = [...first, ...posts.filter((post) => !fresh.has(post.shortcode))];
  }
  stale = false;
  at("new-posts").hidden = true;
  render();
}

const refreshSoon = soon(() => quietly(refresh), 300);

/** Drop posts that are gone; if they come back, they are shown. */
export function drop(shortcodes) {
  const gone = new Set(shortcodes);
  posts = posts.filter((post) => !gone.has(post.shortcode));
  gone.forEach((shortcode) => hidden.delete(shortcode));
  render();
}

/** Update a post with the server's state of it. */
export function takePost({ shortcode, change }) {
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

/** Show the present state of a listed post. */
export function update(post) {
  if (post) {
    posts = posts.map((known) => (known.shortcode === post.shortcode ? slim(post) : known));
    render();
  }
}

export function keepListed(shortcodes, kept) {
  const chosen = new Set(shortcodes);
  posts = posts.map((post) => (chosen.has(post.shortcode) ? { ...post, kept } : post));
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

/** The posts before and after a post in the listing. */
export function neighbours(shortcode) {
  const shown = listed();
  const index = shown.findIndex((post) => post.shortcode === shortcode);
  if (index > shown.length - 3) {
    more();
  }
  return index < 0 ? [null, null] : [shown[index - 1] ?? null, shown[index + 1] ?? null];
}

/** Bring a post's tile into view, and focus it. */
export function focusOn(shortcode) {
  const index = listed().findIndex((post) => post.shortcode === shortcode);
  if (index < 0) {
    at("gallery-title").focus();
    return;
  }
  const row = Math.floor(index / shape.columns);
  const top = at("grid").getBoundingClientRect().top + row * (shape.size + GAP);
  if (top < 0 || top + shape.size > innerHeight) {
    scrollBy(0, top - innerHeight / 2);
    place();
  }
  tiles.get(shortcode)?.querySelector("a").focus({ preventScroll: true });
}

function measure() {
  const width = at("grid").clientWidth;
  const wanted = Math.min(LARGEST_TILE, Math.max(SMALLEST_TILE, width / 8));
  const columns = Math.max(2, Math.floor((width + GAP) / (wanted + GAP)));
  shape = { columns, size: (width - GAP * (columns - 1)) / columns };
}

/** Put the tiles in view into the document, and remove the others. */
function place() {
  const shown = listed();
  const { columns, size } = shape;
  const step = size + GAP;
  const grid = at("grid");
  const rows = Math.ceil(shown.length / columns);
  grid.style.height = `${Math.max(0, rows * step - GAP)}px`;
  const top = -grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step) - beyond);
  // The first row is there even if it is below the window: the keyboard comes from above.
  const last = Math.max(0, Math.floor((top + innerHeight) / step) + beyond);
  const wanted = new Set();
  let before = null;
  for (let index = first * columns; index < Math.min(shown.length, (last + 1) * columns); index += 1) {
    const post = shown[index];
    wanted.add(post.shortcode);
    const tile = draw(tiles.get(post.shortcode), post, index, shown.length);
    tiles.set(post.shortcode, tile);
    tile.style.width = tile.style.height = `${size}px`;
    tile.style.translate = `${(index % columns) * step}px ${Math.floor(index / columns) * step}px`;
    // In the order of the listing, for the keyboard.
    const next = before ? before.nextElementSibling : grid.firstElementChild;
    if (tile !== next) {
      grid.insertBefore(tile, next);
    }
    before = tile;
  }
  for (const [shortcode, tile] of tiles) {
    // The focus would fall to the top of the page.
    if (!wanted.has(shortcode) && !(tile.contains(document.activeElement) && shown.some((post) => post.shortcode === shortcode))) {
      tiles.delete(shortcode);
      tile.remove();
      // Otherwise pictures that scrolled past still load, before those in view.
      tile.querySelector("img")?.removeAttribute("src");
    }
  }
  if (cursor && !loading && last >= rows - 2) {
    quietly(more);
  }
  if (stale && isAtTop()) {
    refreshSoon();
  }
}

/** Show the grid as it is now. */
export function render() {
  measure();
  place();
  const empty = loaded && !listed().length && !cursor;
  at("first-step").hidden = !empty || chooses();
  at("nothing").hidden = !empty || !chooses();
  at("filters").hidden = empty && !chooses();
  at("owners").replaceChildren(
    ...[...new Set(posts.map((post) => post.owner).filter(Boolean))].slice(0, 100).map((name) => new Option(name)),
  );
}

export function watchGallery() {
  let asked = false;
  const onScroll = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        place();
      });
    }
  };
  const goOn = () => {
    beyond = 2;
    onScroll();
  };
  addEventListener("scroll", goOn, { passive: true });
  at("gallery").addEventListener("focusin", goOn);
  new ResizeObserver(() => {
    measure();
    onScroll();
  }).observe(at("grid"));
  // What is above the grid may grow.
  new ResizeObserver(onScroll).observe(document.body);
  at("new-posts").textContent = TEXTS.newPosts;
  at("new-posts").addEventListener("click", () => {
    at("gallery").scrollIntoView();
    place();
    at("gallery-title").focus({ preventScroll: true });
  });
}
