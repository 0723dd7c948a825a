/** Which posts are listed, and which one is open: the address has both. */

import { at } from "./dom.js";
import { hasLink, linksIn } from "./links.js";

const PAUSE_MS = 300;
const NAMES = ["q", "sort", "type", "owner", "kept"];
const DEFAULTS = { q: "", sort: "stored", type: "", owner: "", kept: "" };

let listeners = { listed: () => {}, shown: () => {} };
let listed = "";

const address = () => new URLSearchParams(location.search);

/** The search: if the text has a link, that link. */
function searched() {
  const text = address().get("q")?.trim();
  return text && hasLink(text) ? linksIn(text).find(hasLink) : text;
}

/** The query of a listing, as the server takes it. */
export function query() {
  const found = new URLSearchParams();
  for (const name of NAMES) {
    const value = name === "q" ? searched() : address().get(name)?.trim();
    if (value && value !== DEFAULTS[name]) {
      found.set(name, value);
    }
  }
  return found;
}

/** Whether the listing leaves posts out. */
export const chooses = () => NAMES.some((name) => name !== "sort" && query().has(name));

export const opened = () => ({ shortcode: address().get("post"), slide: Number(address().get("slide")) || 1 });

function go(changes, anew) {
  const now = address();
  for (const [name, value] of Object.entries(changes)) {
    if (value && value !== DEFAULTS[name]) {
      now.set(name, value);
    } else {
      now.delete(name);
    }
  }
  const text = now.toString();
  const place = text ? `?${text}` : location.pathname;
  // The state says that there is a page of ours to go back to.
  if (anew) {
    history.pushState({ ours: true }, "", place);
  } else {
    history.replaceState(history.state, "", place);
  }
  sync();
}

/** Change the filters; with *anew*, Back undoes the change. */
export const choose = (changes, anew = true) => go(changes, anew);

export function openAt(shortcode, slide = 1) {
  go({ post: shortcode, slide: slide > 1 ? String(slide) : "" }, !opened().shortcode);
}

export function close() {
  if (!opened().shortcode) {
    return;
  }
  if (history.state?.ours) {
    history.back();
  } else {
    go({ post: "", slide: "" }, false);
  }
}

/** Update the controls and the lists from the address. */
function sync() {
  const chosen = query();
  for (const name of NAMES) {
    const control = at(name === "q" ? "search" : name);
    const value = (name === "q" ? address().get(name)?.trim() : chosen.get(name)) ?? DEFAULTS[name];
    if (control.type === "checkbox") {
      control.checked = value === "true";
    } else if (control.value.trim() !== value) {
      control.value = value;
    }
  }
  at("no-filters").hidden = !chooses();
  if (listed !== chosen.toString()) {
    listed = chosen.toString();
    listeners.listed();
  }
  listeners.shown();
}

/** *changed.listed* is called when the listing changes, *changed.shown* when one is opened or closed. */
export function watchFilters(changed) {
  listeners = changed;
  listed = query().toString();
  let pause = 0;
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  const typed = () => ({ q: at("search").value.trim(), owner: at("owner").value.trim().replace(/^@/, "") });
  for (const id of ["search", "owner"]) {
    at(id).addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => choose(typed(), false), PAUSE_MS);
    });
  }
  // Text that was typed just before counts, too.
  for (const name of ["sort", "type"]) {
    at(name).addEventListener("change", () => choose({ ...typed(), [name]: at(name).value }));
  }
  at("kept").addEventListener("change", () => choose({ ...typed(), kept: at("kept").checked ? "true" : "" }));
  at("no-filters").addEventListener("click", () => choose({ q: "", type: "", owner: "", kept: "" }));
  addEventListener("popstate", sync);
  sync();
}
