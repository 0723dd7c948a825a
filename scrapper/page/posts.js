/** The stored posts: listed, searched, and removed. */

import { readJSON, request } from "./api.js";
import { guarded } from "./advice.js";
import { at } from "./dom.js";
import { showPost } from "./post.js";
import { TEXTS } from "./texts.js";

const POSTS_AT_ONCE = 12;
const PAUSE_MS = 300;

let nextCursor = null;
let listing = 0;

const isSearch = () => Boolean(at("search").value.trim() || at("only-kept").checked);

export async function listStored(cursor = null) {
  listing += 1;
  const mine = listing;
  const query = new URLSearchParams({ limit: POSTS_AT_ONCE });
  if (cursor) {
    query.set("cursor", cursor);
  }
  if (at("search").value.trim()) {
    query.set("q", at("search").value.trim());
  }
  if (at("only-kept").checked) {
    query.set("kept", "true");
  }
  const listed = await readJSON(`posts?${query}`);
  if (mine !== listing) {
    return;
  }
  nextCursor = listed.next_cursor;
  at("more").hidden = !nextCursor;
  const places = listed.posts.map(placeOf);
  if (cursor) {
    at("stored").append(...places);
  } else {
    replace(places);
  }
  showWhetherEmpty();
}

/** The card of a post; one that is there already, if the post is still the same. */
function placeOf(post) {
  const version = JSON.stringify(post);
  const known = [...at("stored").children].find((place) => place.dataset.version === version);
  if (known) {
    return known;
  }
  const place = document.createElement("li");
  place.className = "card";
  place.dataset.version = version;
  place.append(showPost(post, () => remove(post, place)));
  return place;
}

/** Show *places* and no others. What stays is not moved: a video that is moved begins anew. */
function replace(places) {
  const list = at("stored");
  for (const place of [...list.children]) {
    if (!places.includes(place)) {
      place.remove();
    }
  }
  let next = list.firstElementChild;
  for (const place of places) {
    if (place === next) {
      next = next.nextElementSibling;
    } else {
      list.insertBefore(place, next);
    }
  }
}

async function remove(post, place) {
  if (!confirm(TEXTS.removeQuestion(post.shortcode))) {
    return;
  }
  try {
    await request(`posts/${post.shortcode}`, { method: "DELETE" });
  } catch (failure) {
    // Somebody else was faster: what was wanted is so.
    if (failure.code !== "not_stored") {
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
  at("empty").textContent = isSearch() ? TEXTS.nothingFound : TEXTS.nothingStored;
}

async function listMore() {
  if (nextCursor && !at("more").disabled) {
    at("more").disabled = true;
    await guarded(() => listStored(nextCursor));
    at("more").disabled = false;
  }
}

/** Connect the search fields, the button and scrolling to what they do. */
export function watchSearch() {
  let pause = 0;
  const search = () => guarded(() => listStored());
  at("search-form").addEventListener("submit", (event) => event.preventDefault());
  at("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(search, PAUSE_MS);
  });
  at("only-kept").addEventListener("change", search);
  at("more").addEventListener("click", listMore);
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      listMore();
    }
  }).observe(at("more"));
}
