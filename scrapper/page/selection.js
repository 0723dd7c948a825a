/** Many posts at once: chosen by a long press, Shift and click, or Ctrl+A; then saved, kept or deleted. */

import { guarded } from "./advice.js";
import { bulk, parts } from "./bulk.js";
import { chosen } from "./chosen.js";
import { remove } from "./deletion.js";
import { at } from "./dom.js";
import { keepListed, listed, loadAll, render } from "./gallery.js";
import { saveFile } from "./saving.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const MOST_IN_ARCHIVE = 100;
const LONG_PRESS_MS = 450;
const FAR = 10;

let last = null;

const shortcodes = () => listed().map((post) => post.shortcode).filter((shortcode) => chosen.has(shortcode));

function show() {
  const many = shortcodes();
  at("selection").hidden = !many.length;
  document.body.classList.toggle("selecting", many.length > 0);
  at("selected").textContent = TEXTS.selected(many.length);
  const kept = many.length > 0 && listed().every((post) => post.kept || !chosen.has(post.shortcode));
  at("keep-selected").querySelector("span").textContent = kept ? TEXTS.release : TEXTS.keep;
  at("keep-selected").dataset.action = kept ? "release" : "keep";
  render();
}

export function clearSelection() {
  chosen.clear();
  last = null;
  show();
}

/** Deselect a post that is gone. */
export function deselect(shortcode) {
  if (chosen.delete(shortcode)) {
    show();
  }
}

/** Select or deselect a post; with *range*, everything from the last selected one to it. */
function toggle(shortcode, range) {
  const all = listed().map((post) => post.shortcode);
  const from = range && last ? all.indexOf(last) : -1;
  if (from >= 0) {
    const ends = [from, all.indexOf(shortcode)].sort((one, other) => one - other);
    all.slice(ends[0], ends[1] + 1).forEach((each) => chosen.add(each));
  } else if (!chosen.delete(shortcode)) {
    chosen.add(shortcode);
  }
  last = shortcode;
  show();
}

async function keep() {
  const { action } = at("keep-selected").dataset;
  const many = shortcodes();
  const failed = await bulk(many, action);
  keepListed(many.filter((shortcode) => !failed.includes(shortcode)), action === "keep");
  toast(failed.length ? TEXTS.notKept(failed.length) : TEXTS.keptMany(many.length, action === "keep"), { bad: failed.length > 0 });
  clearSelection();
}

function saveArchives() {
  const archives = parts(shortcodes(), MOST_IN_ARCHIVE);
  archives.forEach((part, index) => {
    // Browsers drop downloads that begin at the same moment.
    setTimeout(() => saveFile(`download?shortcodes=${part.join(",")}&archive=zip`), index * 1000);
  });
  toast(TEXTS.archives(archives.length));
}

async function selectAll() {
  await guarded(loadAll);
  listed().forEach((post) => chosen.add(post.shortcode));
  show();
}

const isTyping = (element) => element.closest("textarea, select, dialog[open], input:not([type=checkbox])") !== null;

/** *open* shows the post of a tile that was pressed. */
export function watchSelection(open) {
  const grid = at("grid");
  let press = 0;
  let pressed = false;
  let start = null;
  grid.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-shortcode]");
    if (!tile) {
      return;
    }
    const { shortcode } = tile.dataset;
    if (event.target.closest(".choose")) {
      // The label sends a second click, to its box.
      if (event.target.matches("input")) {
        toggle(shortcode, event.shiftKey);
      }
      return;
    }
    event.preventDefault();
    if (pressed) {
      pressed = false;
    } else if (event.shiftKey || event.ctrlKey || event.metaKey || chosen.size) {
      toggle(shortcode, event.shiftKey);
    } else {
      open(shortcode);
    }
  });
  const letGo = () => clearTimeout(press);
  grid.addEventListener("pointerdown", (event) => {
    const tile = event.target.closest("[data-shortcode]");
    pressed = false;
    if (tile && event.pointerType !== "mouse" && !event.target.closest(".choose")) {
      start = [event.clientX, event.clientY];
      press = setTimeout(() => {
        pressed = true;
        toggle(tile.dataset.shortcode, false);
      }, LONG_PRESS_MS);
    }
  });
  grid.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start[0], event.clientY - start[1]) > FAR) {
      letGo();
    }
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    grid.addEventListener(name, letGo);
  }
  grid.addEventListener("contextmenu", (event) => {
    if (pressed) {
      event.preventDefault();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || document.querySelector("dialog[open]")) {
      return;
    }
    if (event.key === "a" && (event.ctrlKey || event.metaKey) && listed().length) {
      event.preventDefault();
      selectAll();
    } else if (event.key === "Escape" && chosen.size) {
      clearSelection();
    } else if (event.key === "Delete" && chosen.size) {
      removeChosen();
    }
  });
  const removeChosen = () => {
    const many = shortcodes();
    clearSelection();
    remove(many);
  };
  at("save-selected").addEventListener("click", saveArchives);
  at("keep-selected").addEventListener("click", () => guarded(keep));
  at("delete-selected").addEventListener("click", removeChosen);
  at("select-none").addEventListener("click", clearSelection);
}
