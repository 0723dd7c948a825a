/** The field for links: pasting starts at once, Enter sends, and shared links wait in it. */

import { at } from "./dom.js";
import { hasLink, linksIn } from "./links.js";
import { hurry, put } from "./outbox.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const KEEP = "keep-new";
const UNDO_SECONDS = 5;

function grow() {
  const field = at("links");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

function fillIn(text) {
  at("links").value = text;
  grow();
}

/** Put *links* back, in front of what was typed meanwhile. */
export const putBack = (links) => fillIn([...links, at("links").value].filter(Boolean).join("\n"));

const keeps = () => at("keep-new").checked;

function submit() {
  const links = linksIn(at("links").value);
  at("links").focus();
  if (!links.length) {
    return;
  }
  if (!links.some((link) => /[./]/.test(link))) {
    // No link at all: the text stays in the field, to be corrected.
    toast(TEXTS.advice.invalid_url(), { bad: true });
    return;
  }
  fillIn("");
  put(links, keeps());
}

/** Start with the links of a text that was pasted; they can be taken back for a while. */
function start(text) {
  const links = linksIn(text);
  const takeBack = put(links, keeps(), UNDO_SECONDS);
  const hide = toast(TEXTS.starting(links.length), {
    action: TEXTS.undo,
    act: () => {
      document.removeEventListener("visibilitychange", leave);
      takeBack();
      fillIn(text.trim());
      at("links").focus();
    },
    ended: () => document.removeEventListener("visibilitychange", leave),
    seconds: UNDO_SECONDS,
  });
  // A visitor who goes back to Instagram meanwhile still wants them.
  const leave = () => {
    document.removeEventListener("visibilitychange", leave);
    hide();
    hurry();
  };
  document.addEventListener("visibilitychange", leave);
}

/** Take the links in the address, where the share sheet and the bookmarklet put them. Nothing is sent: any page may link here. */
function takeShared() {
  const query = new URLSearchParams(location.search);
  const parts = ["url", "text", "title"].map((name) => query.get(name));
  let fragment = location.hash.slice(1);
  try {
    fragment = decodeURIComponent(fragment);
  } catch {
    // The text is not percent-encoded, but may be a link as it is.
  }
  const texts = [...parts, fragment].filter((text) => text && hasLink(text));
  if (texts.length) {
    fillIn([...new Set(texts.flatMap(linksIn).filter(hasLink))].join("\n"));
    // Otherwise a reload would bring the links back.
    history.replaceState(null, "", location.pathname);
  }
}

/** Put the focus where the next key is wanted. */
export const focusField = () => at(at("links").value ? "send" : "links").focus({ preventScroll: true });

export function watchField() {
  at("keep-new").checked = recall(KEEP) !== null;
  at("keep-new").addEventListener("change", () => remember(KEEP, keeps() ? "yes" : ""));
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  const field = at("links");
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  field.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (!field.value.trim() && hasLink(text)) {
      event.preventDefault();
      fillIn("");
      start(text);
    }
  });
  // Only https and localhost have a clipboard to read.
  at("paste").hidden = !navigator.clipboard?.readText;
  at("paste").addEventListener("click", async () => {
    let text;
    try {
      text = await navigator.clipboard.readText();
    } catch {
      toast(TEXTS.noClipboard, { bad: true });
      return;
    }
    if (!field.value.trim() && hasLink(text)) {
      start(text);
    } else {
      putBack([text.trim()]);
      field.focus();
    }
  });
  takeShared();
  if (!document.querySelector("dialog[open]")) {
    focusField();
  }
}
