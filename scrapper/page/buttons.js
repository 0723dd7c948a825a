/** Buttons that the page makes. */

import { guarded } from "./advice.js";
import { TEXTS } from "./texts.js";

export function button(label, onClick, className = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = label;
  made.addEventListener("click", async () => {
    made.disabled = true;
    await guarded(() => onClick(made));
    made.disabled = false;
  });
  return made;
}

export function copyButton(label, text) {
  return button(label, async (pressed) => {
    await copyText(text);
    pressed.textContent = TEXTS.copied;
  });
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
