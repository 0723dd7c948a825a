/** Selects posts by a long press, Shift+click or Ctrl+A, to save, keep or delete them together. */

import { guarded } from "./advice.js";
import { bulk, chunks } from "./bulk.js";
import { selectedPosts } from "./selected.js";
import { remove } from "./deletion.js";
import { byId } from "./dom.js";
import { listed, loadAll, render, setKept } from "./gallery.js";
import { saveFile } from "./saving.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const MOST_IN_ARCHIVE = 100;
const LONG_PRESS_MS = 450;
const MAX_MOVEMENT = 10;

let last = null;

const shortcodes = () => listed().map((post) => post.shortcode).filter((shortcode) => selectedPosts.has(shortcode));

function show() {
  const selected = shortcodes();
  byId("selection").hidden = !selected.length;
  document.body.classList.toggle("selecting", selected.length > 0);
  byId("selected").textContent = TEXTS.selected(selected.length);
  const kept = selected.length > 0 && listed().every((post) => post.kept || !selectedPosts.has(post.shortcode));
  byId("keep-selected").querySelector("span").textContent = kept ? TEXTS.release : TEXTS.keep;
  byId("keep-selected").dataset.action = kept ? "release" : "keep";
  render();
}

export function clearSelection() {
  selectedPosts.clear();
  last = null;
  show();
}

/** Deselect a removed post. */
export function deselect(shortcode) {
  if (selectedPosts.delete(shortcode)) {
    show();
  }
}

/** Select or deselect a post; with *range*, select all posts from the last selected one to this one. */
function toggle(shortcode, range) {
  const all = listed().map((post) => post.shortcode);
  const from = range && last ? all.indexOf(last) : -1;
  if (from >= 0) {
    const ends = [from, all.indexOf(shortcode)].sort((one, other) => one - other);
    all.slice(ends[0], ends[1] + 1).forEach((each) => selectedPosts.add(each));
  } else if (!selectedPosts.delete(shortcode)) {
    selectedPosts.add(shortcode);
  }
  last = shortcode;
  show();
}

async function keep() {
  const { action } = byId("keep-selected").dataset;
  const selected = shortcodes();
  const failed = await bulk(selected, action);
  setKept(selected.filter((shortcode) => !failed.includes(shortcode)), action === "keep");
  toast(failed.length ? TEXTS.notKept(failed.length) : TEXTS.keptMany(selected.length, action === "keep"), { error: failed.length > 0 });
  clearSelection();
}

function saveArchives() {
  const archives = chunks(shortcodes(), MOST_IN_ARCHIVE);
  archives.forEach((part, index) => {
    // Browsers may drop downloads that start at the same moment.
    setTimeout(() => saveFile(`download?shortcodes=${part.join(",")}&archive=zip`), index * 1000);
  });
  toast(TEXTS.archives(archives.length));
}

async function selectAll() {
  await guarded(loadAll);
  listed().forEach((post) => selectedPosts.add(post.shortcode));
  show();
}

const isTyping = (element) => element.closest("textarea, select, dialog[open], input:not([type=checkbox])") !== null;

/** Connect the grid and the buttons. *open* is called with the shortcode of a clicked tile. */
export function watchSelection(open) {
  const grid = byId("grid");
  let press = 0;
  let pressed = false;
  let start = null;
  grid.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-shortcode]");
    if (!tile) {
      return;
    }
    const { shortcode } = tile.dataset;
    if (event.target.closest(".checkbox")) {
      // A click on the label causes a second click, on its checkbox. Only that one counts.
      if (event.target.matches("input")) {
        toggle(shortcode, event.shiftKey);
      }
      return;
    }
    event.preventDefault();
    if (pressed) {
      pressed = false;
    } else if (event.shiftKey || event.ctrlKey || event.metaKey || selectedPosts.size) {
      toggle(shortcode, event.shiftKey);
    } else {
      open(shortcode);
    }
  });
  const cancelPress = () => clearTimeout(press);
  grid.addEventListener("pointerdown", (event) => {
    const tile = event.target.closest("[data-shortcode]");
    pressed = false;
    if (tile && event.pointerType !== "mouse" && !event.target.closest(".checkbox")) {
      start = [event.clientX, event.clientY];
      press = setTimeout(() => {
        pressed = true;
        toggle(tile.dataset.shortcode, false);
      }, LONG_PRESS_MS);
    }
  });
  grid.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start[0], event.clientY - start[1]) > MAX_MOVEMENT) {
      cancelPress();
    }
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    grid.addEventListener(name, cancelPress);
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
    } else if (event.key === "Escape" && selectedPosts.size) {
      clearSelection();
    } else if (event.key === "Delete" && selectedPosts.size) {
      removeSelected();
    }
  });
  const removeSelected = () => {
    const selected = shortcodes();
    clearSelection();
    remove(selected);
  };
  byId("save-selected").addEventListener("click", saveArchives);
  byId("keep-selected").addEventListener("click", () => guarded(keep));
  byId("delete-selected").addEventListener("click", removeSelected);
  byId("clear-selection").addEventListener("click", clearSelection);
}
