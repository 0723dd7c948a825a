/** Short messages in view, each with at most one action. */

import { at, icon, make } from "./dom.js";
import { TEXTS } from "./texts.js";

const MOST = 3;
const SECONDS = 6;

const close = new WeakMap();

/**
 * Show *text*. After *seconds* it goes away, and *ended* is called; not if *action* was pressed, which
 * calls *act*. It stays while the pointer or the focus is on it. A *bad* one stays until it is closed.
 * Returns a function that removes it without calling either.
 */
export function toast(text, { action = "", act = null, ended = null, seconds = SECONDS, bad = false } = {}) {
  // Several requests that fail alike show one message.
  const same = [...at("toasts").children].find((other) => bad && other.dataset.text === text);
  if (same) {
    return close.get(same);
  }
  const made = make("div", { className: bad ? "toast bad" : "toast" }, make("p", { textContent: text }));
  made.dataset.text = text;
  if (bad) {
    made.setAttribute("role", "alert");
  }
  let timer = 0;
  const leave = (then) => {
    clearTimeout(timer);
    if (close.delete(made)) {
      const focused = made.contains(document.activeElement);
      made.remove();
      place();
      if (focused) {
        (document.querySelector("dialog[open]") ?? at("main")).focus();
      }
      then?.();
    }
  };
  close.set(made, () => leave(ended));
  if (action) {
    const button = make("button", { type: "button", className: "quiet", textContent: action });
    button.addEventListener("click", () => leave(act));
    made.append(button);
  }
  if (bad || !ended) {
    const button = make("button", { type: "button", className: "round", title: TEXTS.close }, icon("close"));
    button.setAttribute("aria-label", TEXTS.close);
    button.addEventListener("click", () => leave(ended));
    made.append(button);
  }
  const count = () => {
    clearTimeout(timer);
    if (!bad) {
      timer = setTimeout(() => leave(ended), seconds * 1000);
    }
  };
  for (const [begins, ends] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
    made.addEventListener(begins, () => clearTimeout(timer));
    made.addEventListener(ends, count);
  }
  const toasts = at("toasts");
  // Other messages do not push out a message that waits for an answer.
  const others = [...toasts.children].filter((other) => !other.querySelector(".quiet"));
  if (others.length >= MOST) {
    close.get(others[0])();
  }
  toasts.append(made);
  place();
  count();
  return () => leave(null);
}

/** Nothing outside of an open dialog can be reached, so the toasts move into it. */
export function place() {
  const home = document.querySelector("dialog[open]") ?? document.body;
  if (at("toasts").parentElement !== home) {
    home.append(at("toasts"));
  }
}
