/** The listing's filters and the open post, both of which are stored in the page's address. */

import { byId } from "./dom.js";
import { hasLink, linksIn } from "./links.js";

const DEBOUNCE_MS = 300;
const NAMES = ["q", "sort", "type", "owner", "kept"];
const DEFAULTS = { q: "", sort: "stored", type: "", owner: "", kept: "" };

let listeners = { listed: () => {}, shown: () => {} };
let listed = "";

const parameters = () => new URLSearchParams(location.search);

/** The text to search for. If it contains a link, only the link is searched for. */
function searchText() {
  const text = parameters().get("q")?.trim();
  return text && hasLink(text) ? linksIn(text).find(hasLink) : text;
}

/** The query parameters of a listing. */
export function query() {
  const found = new URLSearchParams();
  for (const name of NAMES) {
    const value = name === "q" ? searchText() : parameters().get(name)?.trim();
    if (value && value !== DEFAULTS[name]) {
      found.set(name, value);
    }
  }
  return found;
}

/** Whether the filters exclude posts. */
export const isFiltered = () => NAMES.some((name) => name !== "sort" && query().has(name));

export const openedPost = () => ({ shortcode: parameters().get("post"), slide: Number(parameters().get("slide")) || 1 });

function navigate(changes, push) {
  const now = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value && value !== DEFAULTS[name]) {
      now.set(name, value);
    } else {
      now.delete(name);
    }
  }
  const text = now.toString();
  const place = text ? `?${text}` : location.pathname;
  // The state records that Back returns to this page.
  if (push) {
    history.pushState({ ours: true }, "", place);
  } else {
    history.replaceState(history.state, "", place);
  }
  sync();
}

/** Change the filters; with *push*, Back undoes the change. */
export const setFilters = (changes, push = true) => navigate(changes, push);

export function openAt(shortcode, slide = 1) {
  navigate({ post: shortcode, slide: slide > 1 ? String(slide) : "" }, !openedPost().shortcode);
}

export function close() {
  if (!openedPost().shortcode) {
    return;
  }
  if (history.state?.ours) {
    history.back();
  } else {
    navigate({ post: "", slide: "" }, false);
  }
}

/** Update the controls and the listing from the address. */
function sync() {
  const current = query();
  for (const name of NAMES) {
    const control = byId(name === "q" ? "search" : name);
    const value = (name === "q" ? parameters().get(name)?.trim() : current.get(name)) ?? DEFAULTS[name];
    if (control.type === "checkbox") {
      control.checked = value === "true";
    } else if (control.value.trim() !== value) {
      control.value = value;
    }
  }
  byId("clear-filters").hidden = !isFiltered();
  if (listed !== current.toString()) {
    listed = current.toString();
    listeners.listed();
  }
  listeners.shown();
}

/**
 * Connect the controls. *changed.listed* is called when the listing changes, *changed.shown* when a post
 * is opened or closed.
 */
export function watchFilters(changed) {
  listeners = changed;
  listed = query().toString();
  let timer = 0;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  const typedFilters = () => ({ q: byId("search").value.trim(), owner: byId("owner").value.trim().replace(/^@/, "") });
  for (const id of ["search", "owner"]) {
    byId(id).addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => setFilters(typedFilters(), false), DEBOUNCE_MS);
    });
  }
  // Include text whose debounce has not ended yet.
  for (const name of ["sort", "type"]) {
    byId(name).addEventListener("change", () => setFilters({ ...typedFilters(), [name]: byId(name).value }));
  }
  byId("kept").addEventListener("change", () => setFilters({ ...typedFilters(), kept: byId("kept").checked ? "true" : "" }));
  byId("clear-filters").addEventListener("click", () => setFilters({ q: "", type: "", owner: "", kept: "" }));
  addEventListener("popstate", sync);
  sync();
}
