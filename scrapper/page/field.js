/** The field for links. Pasted links are sent immediately, and typed or shared links on Enter. */

import { byId } from "./dom.js";
import { hasLink, linksIn } from "./links.js";
import { enqueue, sendNow } from "./outbox.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const KEEP_KEY = "keep-new";
const UNDO_SECONDS = 5;

function fitHeight() {
  const field = byId("links");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

function setText(text) {
  byId("links").value = text;
  fitHeight();
}

/** Put *links* back into the field, before any text typed since. */
export const restore = (links) => setText([...links, byId("links").value].filter(Boolean).join("\n"));

const isKeepOn = () => byId("keep-new").checked;

function submit() {
  const links = linksIn(byId("links").value);
  byId("links").focus();
  if (!links.length) {
    return;
  }
  if (!links.some((link) => /[./]/.test(link))) {
    // The text is not a link. It stays in the field, so that the visitor can correct it.
    toast(TEXTS.advice.invalid_url(), { error: true });
    return;
  }
  setText("");
  enqueue(links, isKeepOn());
}

/** Send the links in a pasted text after a few seconds, during which the visitor can undo this. */
function start(text) {
  const links = linksIn(text);
  const cancel = enqueue(links, isKeepOn(), UNDO_SECONDS);
  const hide = toast(TEXTS.starting(links.length), {
    action: TEXTS.undo,
    act: () => {
      document.removeEventListener("visibilitychange", leave);
      cancel();
      setText(text.trim());
      byId("links").focus();
    },
    ended: () => document.removeEventListener("visibilitychange", leave),
    seconds: UNDO_SECONDS,
  });
  // A visitor who switches back to Instagram still wants the posts, so the links are sent at once.
  const leave = () => {
    document.removeEventListener("visibilitychange", leave);
    hide();
    sendNow();
  };
  document.addEventListener("visibilitychange", leave);
}

/**
 * Fill in the links that the share sheet or the bookmarklet put into the page's address. They are not
 * sent, because any site can link to this page.
 */
function readSharedLinks() {
  const query = new URLSearchParams(location.search);
  const parts = ["url", "text", "title"].map((name) => query.get(name));
  let fragment = location.hash.slice(1);
  try {
    fragment = decodeURIComponent(fragment);
  } catch {
    // The text is not percent-encoded, but may still be a link.
  }
  const texts = [...parts, fragment].filter((text) => text && hasLink(text));
  if (texts.length) {
    setText([...new Set(texts.flatMap(linksIn).filter(hasLink))].join("\n"));
    // If the links stayed in the address, a reload would fill them in again.
    history.replaceState(null, "", location.pathname);
  }
}

/** Focus the send button if the field contains text, else the field. */
export const focusField = () => byId(byId("links").value ? "send" : "links").focus({ preventScroll: true });

export function watchField() {
  byId("keep-new").checked = recall(KEEP_KEY) !== null;
  byId("keep-new").addEventListener("change", () => remember(KEEP_KEY, isKeepOn() ? "yes" : ""));
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  const field = byId("links");
  field.addEventListener("input", fitHeight);
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
      setText("");
      start(text);
    }
  });
  // The clipboard can be read only on https and localhost.
  byId("paste").hidden = !navigator.clipboard?.readText;
  byId("paste").addEventListener("click", async () => {
    let text;
    try {
      text = await navigator.clipboard.readText();
    } catch {
      toast(TEXTS.noClipboard, { error: true });
      return;
    }
    if (!field.value.trim() && hasLink(text)) {
      start(text);
    } else {
      restore([text.trim()]);
      field.focus();
    }
  });
  readSharedLinks();
  if (!document.querySelector("dialog[open]")) {
    focusField();
  }
}
