/** A stored post on the page, and the list of them. */

import { readJSON, request } from "./api.js";
import { guarded, size } from "./advice.js";
import { at, copyOf } from "./dom.js";

const POSTS_AT_ONCE = 12;

function button(label, onClick, className = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = label;
  made.addEventListener("click", () => guarded(() => onClick(made)));
  return made;
}

function save(path, name) {
  const link = document.createElement("a");
  link.href = path;
  link.download = name;
  link.click();
}

function preview(item, thumbnail, alt) {
  const made = document.createElement(item.type === "video" ? "video" : "img");
  if (item.type === "video") {
    made.controls = true;
    made.playsInline = true;
    made.preload = "metadata";
    made.setAttribute("aria-label", alt);
    if (thumbnail) {
      made.poster = thumbnail.url;
    }
  } else {
    made.alt = alt;
    made.loading = "lazy";
  }
  made.src = item.url;
  return made;
}

function actionsOf(post, remove) {
  const many = post.media.length > 1;
  const actions = post.media.map((item, index) => {
    const label = many ? `Save ${index + 1}` : "Save";
    const made = button(label, () =>
      save(many ? `download/${post.shortcode}?item=${index + 1}` : `download/${post.shortcode}`,
        item.url.split("/").pop()));
    made.title = `${item.type}, ${size(item.size)}`;
    return made;
  });
  if (many) {
    actions.push(button("Save all as ZIP", () =>
      save(`download/${post.shortcode}?archive=zip`, `${post.shortcode}.zip`)));
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

export function showPost(post, remove = null) {
  const made = copyOf("post-template");
  const name = made.querySelector(".name");
  name.textContent = post.owner ? `${post.owner}, ${post.shortcode}` : post.shortcode;
  name.href = `https://www.instagram.com/p/${post.shortcode}/`;
  made.querySelector(".when").textContent = post.taken_at ? new Date(post.taken_at).toLocaleDateString() : "";
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
    const alt = `${item.type === "video" ? "Video" : "Picture"} ${index + 1} of ${post.media.length}${post.owner ? `, by ${post.owner}` : ""}`;
    place.append(preview(item, item === cover ? post.thumbnail : null, alt));
  }
  return made;
}

let nextCursor = null;
let listing = 0;

export async function listStored(cursor = null) {
  listing += 1;
  const mine = listing;
  const query = new URLSearchParams({ limit: POSTS_AT_ONCE });
  if (cursor) {
    query.set("cursor", cursor);
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
  if (!confirm(`Delete ${post.shortcode} and its files?`)) {
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
}

export const listMore = () => listStored(nextCursor);
