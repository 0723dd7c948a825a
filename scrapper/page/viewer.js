/** One post, large: its slides, its details, and its actions. */

import { guarded } from "./advice.js";
import { readJSON, send } from "./api.js";
import { bulk } from "./bulk.js";
import { nodesOf } from "./caption.js";
import { copyText } from "./clipboard.js";
import { remove } from "./deletion.js";
import { at, icon, make } from "./dom.js";
import { choose, close, openAt, opened } from "./filters.js";
import { focusOn, keepListed, neighbours, update } from "./gallery.js";
import { Saving, saveFile } from "./saving.js";
import { TEXTS } from "./texts.js";
import { place, toast } from "./toast.js";

const FAR = 50;
const CONTROLS = 90;

const dialog = at("viewer");
let post = null;
/** The slides: the files, and the number of each in Instagram's order. */
let slides = [];
let shown = 0;
let saving = null;
let asked = "";

function slidesOf({ media, missing }) {
  let number = 0;
  return media.map((item) => {
    do {
      number += 1;
    } while (missing.includes(number));
    return { item, number };
  });
}

const isPicture = (item) => item.type === "image";

function posterOf(item) {
  const cover = post.media.find((one) => one.type === "video");
  return item === cover ? post.thumbnail?.url : null;
}

function large({ item }, index) {
  const alt = item.alt_text || TEXTS.item(item.type, index + 1, slides.length, post.owner);
  if (isPicture(item)) {
    return make("img", { alt, src: item.url, draggable: false });
  }
  const made = make(item.type, { controls: true, playsInline: true, preload: "metadata", src: item.url });
  made.setAttribute("aria-label", alt);
  const poster = posterOf(item);
  if (poster) {
    made.poster = poster;
  }
  return made;
}

// Pictures of the strip are the files themselves: only those in view are loaded.
const loadInView = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      loadInView.unobserve(target);
      target.src = target.dataset.source;
    }
  }
}, { root: at("strip"), rootMargin: "64px" });

function stripButton({ item, number }, index) {
  const button = make("button", { type: "button" });
  button.setAttribute("aria-label", TEXTS.item(item.type, index + 1, slides.length, null));
  const source = isPicture(item) ? item.url : posterOf(item);
  if (source) {
    const image = make("img", { alt: "" });
    image.dataset.source = source;
    button.append(image);
    loadInView.observe(image);
  }
  if (!isPicture(item)) {
    button.append(icon(item.type === "audio" ? "sound" : "play"));
  }
  button.dataset.number = number;
  button.addEventListener("click", () => openAt(post.shortcode, index + 1));
  return button;
}

function leaveMedia() {
  const player = at("media").querySelector("video, audio");
  if (player) {
    // Otherwise the file may go on loading.
    player.removeAttribute("src");
    player.load();
  }
  at("media").replaceChildren();
  saving?.close();
  saving = null;
}

function showSlide(slide) {
  shown = Math.min(Math.max(slide - 1, 0), slides.length - 1);
  const { item, number } = slides[shown];
  leaveMedia();
  at("media").append(large(slides[shown], shown));
  saving = new Saving(`download/${post.shortcode}?item=${number}`, item);
  const next = slides[shown + 1]?.item;
  if (next && isPicture(next)) {
    new Image().src = next.url;
  }
  at("count").hidden = slides.length < 2;
  at("count").textContent = TEXTS.count(shown + 1, slides.length);
  for (const [index, button] of [...at("strip").children].entries()) {
    button.toggleAttribute("aria-current", index === shown);
    if (index === shown) {
      at("strip").scrollTo({ left: button.offsetLeft - at("strip").clientWidth / 2 });
    }
  }
  at("file-facts").textContent = TEXTS.file(item);
  const [before, after] = neighbours(post.shortcode);
  at("previous").disabled = shown === 0 && !before;
  at("next").disabled = shown === slides.length - 1 && !after;
}

function showPost() {
  const { details } = post;
  slides = slidesOf(post);
  at("viewer-title").textContent = post.owner ?? TEXTS.nameOf(post.shortcode);
  at("by-owner").hidden = !post.owner;
  at("on-instagram").href = post.original_url;
  at("caption").replaceChildren(...nodesOf(post.description));
  at("caption").hidden = !post.description;
  at("strip").replaceChildren(...(slides.length > 1 ? slides.map(stripButton) : []));
  at("strip").hidden = slides.length < 2;
  const facts = [
    [TEXTS.facts.taken, post.taken_at && TEXTS.moment(post.taken_at)],
    [TEXTS.facts.stored, TEXTS.moment(post.stored_at)],
    [TEXTS.facts.reactions, TEXTS.reactions(details)],
    [TEXTS.facts.place, details.location],
    [TEXTS.facts.coauthors, details.coauthors.join(", ")],
    [TEXTS.facts.music, details.music && TEXTS.music(details.music)],
    [TEXTS.facts.missing, post.missing.join(", ")],
  ];
  at("facts").replaceChildren(...facts.filter(([, text]) => text).flatMap(([name, text]) => [
    make("dt", { textContent: name }),
    make("dd", { textContent: text }),
  ]));
  at("stays").textContent = TEXTS.stays(post);
  at("keep-post").querySelector("span").textContent = post.kept ? TEXTS.kept : TEXTS.keep;
  at("keep-post").setAttribute("aria-pressed", String(post.kept));
  at("save-all").hidden = slides.length < 2;
  at("copy-caption").hidden = !post.description;
}

/** Show what the address opens. */
export async function showOpened() {
  const { shortcode, slide } = opened();
  asked = shortcode ?? "";
  if (!shortcode) {
    if (dialog.open) {
      dialog.close();
    }
    return;
  }
  if (!dialog.open) {
    dialog.showModal();
    place();
  }
  if (post?.shortcode !== shortcode) {
    leaveMedia();
    dialog.classList.add("loading");
    let found;
    try {
      found = await readJSON(`posts/${encodeURIComponent(shortcode)}`);
    } catch (failure) {
      // The post stays in the address until the visitor signs in.
      if (asked === shortcode && failure.status !== 401) {
        close();
        guarded(() => {
          throw failure;
        });
      }
      return;
    }
    if (asked !== shortcode) {
      return;
    }
    dialog.classList.remove("loading");
    post = found;
    showPost();
    dialog.querySelector(".panel").scrollTop = 0;
  }
  showSlide(slide);
}

/** Step through the slides, and on to the next post. */
function step(by) {
  if (!post) {
    return;
  }
  if (slides[shown + by]) {
    openAt(post.shortcode, shown + by + 1);
    return;
  }
  const neighbour = neighbours(post.shortcode)[by < 0 ? 0 : 1];
  if (neighbour) {
    openAt(neighbour.shortcode);
  }
}

/** Update with the server's state of a post. */
export async function takeShownPost({ shortcode, change }) {
  if (post?.shortcode !== shortcode || !dialog.open) {
    return;
  }
  if (change === "removed") {
    close();
    return;
  }
  await guarded(async () => {
    const found = await readJSON(`posts/${shortcode}`);
    if (post?.shortcode !== shortcode) {
      return;
    }
    const same = JSON.stringify(found.media) === JSON.stringify(post.media);
    post = found;
    showPost();
    if (!same) {
      showSlide(shown + 1);
    } else {
      // A playing video goes on.
      showCurrent();
    }
  });
}

const showCurrent = () =>
  [...at("strip").children].forEach((button, index) => button.toggleAttribute("aria-current", index === shown));

async function keep() {
  const { shortcode, kept } = post;
  await bulk([shortcode], kept ? "release" : "keep");
  keepListed([shortcode], !kept);
  toast(TEXTS.keptMany(1, !kept));
  await takeShownPost({ shortcode, change: "changed" });
}

async function fetchAgain() {
  const { shortcode, original_url: url } = post;
  const hide = toast(TEXTS.fetching, { seconds: 120 });
  try {
    const found = await (await send("scrape", "POST", { url, refresh: true })).json();
    update(found);
    await takeShownPost({ shortcode, change: "changed" });
    toast(TEXTS.fetched);
  } finally {
    hide();
  }
}

function removeShown() {
  const { shortcode } = post;
  const [before, after] = neighbours(shortcode);
  remove([shortcode]);
  if (after ?? before) {
    openAt((after ?? before).shortcode);
  } else {
    close();
  }
}

async function copy(text) {
  await copyText(text);
  toast(TEXTS.copied);
}

function watchSwipes() {
  let start = null;
  const stage = at("stage");
  stage.addEventListener("pointerdown", (event) => {
    const player = event.target.closest("video, audio");
    // Moving along a video's time line, or zooming, is not a swipe.
    const seeks = player && event.clientY > player.getBoundingClientRect().bottom - CONTROLS;
    const swipes = event.isPrimary && event.pointerType !== "mouse" && !seeks && !event.target.closest("button");
    start = swipes ? [event.clientX, event.clientY] : null;
  });
  stage.addEventListener("pointerup", (event) => {
    const [x, y] = start ? [event.clientX - start[0], event.clientY - start[1]] : [0, 0];
    start = null;
    if (Math.abs(x) > FAR && Math.abs(x) > 2 * Math.abs(y)) {
      step(x < 0 ? 1 : -1);
    }
  });
}

export function watchViewer() {
  const acts = {
    previous: () => step(-1),
    next: () => step(1),
    save: () => saving?.save(),
    "save-all": () => saveFile(`download/${post.shortcode}?archive=zip`),
    "copy-link": () => copy(post.original_url),
    "copy-caption": () => copy(post.description),
    "keep-post": keep,
    "fetch-again": fetchAgain,
    "delete-post": removeShown,
    "close-viewer": close,
    "by-owner": () => choose({ q: "", type: "", kept: "", post: "", slide: "", owner: post.owner }),
  };
  for (const [id, act] of Object.entries(acts)) {
    at(id).addEventListener("click", () => {
      at("post-menu").open = false;
      guarded(act);
    });
  }
  // A button that disappears would take the focus out of the dialog.
  document.addEventListener("keydown", (event) => {
    if (!dialog.open || event.target.closest("video, audio") || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    } else if (event.key === "Escape" && at("post-menu").open) {
      event.preventDefault();
      at("post-menu").open = false;
      at("post-menu").firstElementChild.focus();
    } else if (event.key === "Delete") {
      removeShown();
    }
  });
  dialog.addEventListener("click", (event) => {
    if (!event.target.closest("#post-menu")) {
      at("post-menu").open = false;
    }
  });
  dialog.addEventListener("close", () => {
    leaveMedia();
    const last = post?.shortcode;
    post = null;
    place();
    if (at("sign-in").hidden) {
      close();
    }
    if (last) {
      focusOn(last);
    }
  });
  watchSwipes();
}
