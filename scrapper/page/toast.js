/** Short messages at the bottom of the window, each with at most one action. */

import { byId, createElement, icon } from "./dom.js";
import { TEXTS } from "./texts.js";

const MAX_TOASTS = 3;
const SECONDS = 6;

const close = new WeakMap();

/**
 * Show *text*, with a button labelled *action* that calls *act*. After *seconds*, the message disappears,
 * and *ended* is called unless the button was pressed. The message stays while it is hovered or focused,
 * and an *error* stays until it is closed. Returns a function that removes the message without calling
 * *act* or *ended*.
 */
export function toast(text, { action = "", act = null, ended = null, seconds = SECONDS, error = false } = {}) {
  // If several requests fail in the same way, only one message is shown.
  const duplicate = [...byId("toasts").children].find((other) => error && other.dataset.text === text);
  if (duplicate) {
    return close.get(duplicate);
  }
  const element = createElement("div", { className: error ? "toast error" : "toast" }, createElement("p", { textContent: text }));
  element.dataset.text = text;
  if (error) {
    element.setAttribute("role", "alert");
  }
  let timer = 0;
  const dismiss = (then) => {
    clearTimeout(timer);
    if (close.delete(element)) {
      const focused = element.contains(document.activeElement);
      element.remove();
      placeToasts();
      if (focused) {
        (document.querySelector("dialog[open]") ?? byId("main")).focus();
      }
      then?.();
    }
  };
  close.set(element, () => dismiss(ended));
  if (action) {
    const button = createElement("button", { type: "button", className: "quiet", textContent: action });
    button.addEventListener("click", () => dismiss(act));
    element.append(button);
  }
  if (error || !ended) {
    const button = createElement("button", { type: "button", className: "round", title: TEXTS.close }, icon("close"));
    button.setAttribute("aria-label", TEXTS.close);
    button.addEventListener("click", () => dismiss(ended));
    element.append(button);
  }
  const restart = () => {
    clearTimeout(timer);
    if (!error) {
      timer = setTimeout(() => dismiss(ended), seconds * 1000);
    }
  };
  for (const [begins, ends] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
    element.addEventListener(begins, () => clearTimeout(timer));
    element.addEventListener(ends, restart);
  }
  const toasts = byId("toasts");
  // A new message does not replace one that has an action.
  const others = [...toasts.children].filter((other) => !other.querySelector(".quiet"));
  if (others.length >= MAX_TOASTS) {
    close.get(others[0])();
  }
  toasts.append(element);
  placeToasts();
  restart();
  return () => dismiss(null);
}

/** Move the toasts into the open dialog, if there is one, because nothing outside it can be clicked. */
export function placeToasts() {
  const home = document.querySelector("dialog[open]") ?? document.body;
  if (byId("toasts").parentElement !== home) {
    home.append(byId("toasts"));
  }
}
