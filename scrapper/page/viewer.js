/** Shows one post: its slides, its details and its actions. */

import { guarded } from "./advice.js";
import { readJSON, send } from "./api.js";
import { bulk } from "./bulk.js";
import { nodesOf } from "./caption.js";
import { copyText } from "./clipboard.js";
import { remove } from "./deletion.js";
import { byId, createElement, icon } from "./dom.js";
import { close, openAt, openedPost, setFilters } from "./filters.js";
import { focusOn, neighbours, setKept, update } from "./gallery.js";
import { Saving, saveFile } from "./saving.js";
import { TEXTS } from "./texts.js";
import { placeToasts, toast } from "./toast.js";

const SWIPE_DISTANCE = 50;
const CONTROLS_HEIGHT = 90;

const dialog = byId("viewer");
let post = null;
/** The post's files, each with its number in Instagram's order. */
let slides = [];
let shown = 0;
let saving = null;
let requested = "";

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

function mediaElement({ item }, index) {
  const alt = item.alt_text || TEXTS.item(item.type, index + 1, slides.length, post.owner);
  if (isPicture(item)) {
    return createElement("img", { alt, src: item.url, draggable: false });
  }
  const element = createElement(item.type, { controls: true, playsInline: true, preload: "metadata", src: item.url });
  element.setAttribute("aria-label", alt);
  const poster = posterOf(item);
  if (poster) {
    element.poster = poster;
  }
  return element;
}

// The strip shows the full-size pictures, so only visible ones are loaded.
const thumbnailObserver = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      thumbnailObserver.unobserve(target);
      target.src = target.dataset.source;
    }
  }
}, { root: byId("strip"), rootMargin: "64px" });

function stripButton({ item, number }, index) {
  const button = createElement("button", { type: "button" });
  button.setAttribute("aria-label", TEXTS.item(item.type, index + 1, slides.length, null));
  const source = isPicture(item) ? item.url : posterOf(item);
  if (source) {
    const image = createElement("img", { alt: "" });
    image.dataset.source = source;
    button.append(image);
    thumbnailObserver.observe(image);
  }
  if (!isPicture(item)) {
    button.append(icon(item.type === "audio" ? "sound" : "play"));
  }
  button.dataset.number = number;
  button.addEventListener("click", () => openAt(post.shortcode, index + 1));
  return button;
}

function leaveMedia() {
  const player = byId("media").querySelector("video, audio");
  if (player) {
    // Without this, the browser might continue to load the file.
    player.removeAttribute("src");
    player.load();
  }
  byId("media").replaceChildren();
  saving?.close();
  saving = null;
}

function showSlide(slide) {
  shown = Math.min(Math.max(slide - 1, 0), slides.length - 1);
  const { item, number } = slides[shown];
  leaveMedia();
  byId("media").append(mediaElement(slides[shown], shown));
  saving = new Saving(`download/${post.shortcode}?item=${number}`, item);
  const next = slides[shown + 1]?.item;
  if (next && isPicture(next)) {
    new Image().src = next.url;
  }
  byId("count").hidden = slides.length < 2;
  byId("count").textContent = TEXTS.count(shown + 1, slides.length);
  for (const [index, button] of [...byId("strip").children].entries()) {
    button.toggleAttribute("aria-current", index === shown);
    if (index === shown) {
      byId("strip").scrollTo({ left: button.offsetLeft - byId("strip").clientWidth / 2 });
    }
  }
  byId("file-facts").textContent = TEXTS.file(item);
  const [before, after] = neighbours(post.shortcode);
  byId("previous").disabled = shown === 0 && !before;
  byId("next").disabled = shown === slides.length - 1 && !after;
}

function showPost() {
  const { details } = post;
  slides = slidesOf(post);
  byId("viewer-title").textContent = post.owner ?? TEXTS.nameOf(post.shortcode);
  byId("by-owner").hidden = !post.owner;
  byId("on-instagram").href = post.original_url;
  byId("caption").replaceChildren(...nodesOf(post.description));
  byId("caption").hidden = !post.description;
  byId("strip").replaceChildren(...(slides.length > 1 ? slides.map(stripButton) : []));
  byId("strip").hidden = slides.length < 2;
  const facts = [
    [TEXTS.facts.taken, post.taken_at && TEXTS.moment(post.taken_at)],
    [TEXTS.facts.stored, TEXTS.moment(post.stored_at)],
    [TEXTS.facts.reactions, TEXTS.reactions(details)],
    [TEXTS.facts.place, details.location],
    [TEXTS.facts.coauthors, details.coauthors.join(", ")],
    [TEXTS.facts.music, details.music && TEXTS.music(details.music)],
    [TEXTS.facts.missing, post.missing.join(", ")],
  ];
  byId("facts").replaceChildren(...facts.filter(([, text]) => text).flatMap(([name, text]) => [
    createElement("dt", { textContent: name }),
    createElement("dd", { textContent: text }),
  ]));
  byId("stays").textContent = TEXTS.stays(post);
  byId("keep-post").querySelector("span").textContent = post.kept ? TEXTS.kept : TEXTS.keep;
  byId("keep-post").setAttribute("aria-pressed", String(post.kept));
  byId("save-all").hidden = slides.length < 2;
  byId("copy-caption").hidden = !post.description;
}

/** Show the post that is named in the page's address, or close the viewer if there is none. */
export async function showOpened() {
  const { shortcode, slide } = openedPost();
  requested = shortcode ?? "";
  if (!shortcode) {
    if (dialog.open) {
      dialog.close();
    }
    return;
  }
  if (!dialog.open) {
    dialog.showModal();
    placeToasts();
  }
  if (post?.shortcode !== shortcode) {
    leaveMedia();
    dialog.classList.add("loading");
    let found;
    try {
      found = await readJSON(`posts/${encodeURIComponent(shortcode)}`);
    } catch (failure) {
      // The post stays in the address until the visitor signs in.
      if (requested === shortcode && failure.status !== 401) {
        close();
        guarded(() => {
          throw failure;
        });
      }
      return;
    }
    if (requested !== shortcode) {
      return;
    }
    dialog.classList.remove("loading");
    post = found;
    showPost();
    dialog.querySelector(".panel").scrollTop = 0;
  }
  showSlide(slide);
}

/** Show the next or previous slide, or the neighbouring post after the last one. */
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

/** Apply a `post` event from the server. */
export async function refreshShownPost({ shortcode, change }) {
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
      // Showing the slide again would interrupt a playing video.
      showCurrent();
    }
  });
}

const showCurrent = () =>
  [...byId("strip").children].forEach((button, index) => button.toggleAttribute("aria-current", index === shown));

async function keep() {
  const { shortcode, kept } = post;
  await bulk([shortcode], kept ? "release" : "keep");
  setKept([shortcode], !kept);
  toast(TEXTS.keptMany(1, !kept));
  await refreshShownPost({ shortcode, change: "changed" });
}

async function fetchAgain() {
  const { shortcode, original_url: url } = post;
  const hide = toast(TEXTS.fetching, { seconds: 120 });
  try {
    const found = await (await send("scrape", "POST", { url, refresh: true })).json();
    update(found);
    await refreshShownPost({ shortcode, change: "changed" });
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
  const stage = byId("stage");
  stage.addEventListener("pointerdown", (event) => {
    const player = event.target.closest("video, audio");
    // Seeking in a video and zooming are not swipes.
    const seeks = player && event.clientY > player.getBoundingClientRect().bottom - CONTROLS_HEIGHT;
    const swipes = event.isPrimary && event.pointerType !== "mouse" && !seeks && !event.target.closest("button");
    start = swipes ? [event.clientX, event.clientY] : null;
  });
  stage.addEventListener("pointerup", (event) => {
    const [x, y] = start ? [event.clientX - start[0], event.clientY - start[1]] : [0, 0];
    start = null;
    if (Math.abs(x) > SWIPE_DISTANCE && Math.abs(x) > 2 * Math.abs(y)) {
      step(x < 0 ? 1 : -1);
    }
  });
}

export function watchViewer() {
  const handlers = {
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
    "by-owner": () => setFilters({ q: "", type: "", kept: "", post: "", slide: "", owner: post.owner }),
  };
  for (const [id, act] of Object.entries(handlers)) {
    byId(id).addEventListener("click", () => {
      byId("post-menu").open = false;
      guarded(act);
    });
  }
  // The listener is on the document, because the focus leaves the dialog when a focused button disappears.
  document.addEventListener("keydown", (event) => {
    if (!dialog.open || event.target.closest("video, audio") || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    } else if (event.key === "Escape" && byId("post-menu").open) {
      event.preventDefault();
      byId("post-menu").open = false;
      byId("post-menu").firstElementChild.focus();
    } else if (event.key === "Delete") {
      removeShown();
    }
  });
  dialog.addEventListener("click", (event) => {
    if (!event.target.closest("#post-menu")) {
      byId("post-menu").open = false;
    }
  });
  dialog.addEventListener("close", () => {
    leaveMedia();
    const last = post?.shortcode;
    post = null;
    placeToasts();
    if (byId("sign-in").hidden) {
      close();
    }
    if (last) {
      focusOn(last);
    }
  });
  watchSwipes();
}
