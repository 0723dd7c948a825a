/** The tile of a post in the grid: its picture, its badges, and its checkbox. */

import { selectedPosts } from "./selected.js";
import { cloneTemplate, createElement, icon } from "./dom.js";
import { TEXTS } from "./texts.js";

/** Create or update the tile of a post. */
export function draw(known, post, index, all) {
  const tile = known ?? cloneTemplate("tile-template");
  const link = tile.querySelector("a");
  const box = tile.querySelector("input");
  const selected = selectedPosts.has(post.shortcode);
  tile.setAttribute("aria-posinset", index + 1);
  tile.setAttribute("aria-setsize", all);
  tile.classList.toggle("selected", selected);
  box.checked = selected;
  if (tile.post === post) {
    return tile;
  }
  tile.post = post;
  tile.dataset.shortcode = post.shortcode;
  link.href = `?post=${encodeURIComponent(post.shortcode)}`;
  link.setAttribute("aria-label", TEXTS.tile(post));
  box.setAttribute("aria-label", TEXTS.select(post));
  tile.querySelector(".tile-owner").textContent = post.owner ?? post.shortcode;
  const picture = tile.querySelector(".picture");
  if (picture.firstElementChild?.getAttribute("src") !== post.thumbnail) {
    const none = icon(post.video ? "play" : "picture");
    if (post.thumbnail) {
      const image = createElement("img", { alt: "", decoding: "async", draggable: false });
      image.addEventListener("error", () => image.replaceWith(none));
      image.src = post.thumbnail;
      picture.replaceChildren(image);
    } else {
      picture.replaceChildren(none);
    }
  }
  const badges = [];
  if (post.kept) {
    badges.push(icon("star", "solid"));
  }
  if (post.slides > 1) {
    badges.push(createElement("span", { textContent: post.slides }), icon("slides"));
  } else if (post.video) {
    badges.push(icon("play", "solid"));
  }
  tile.querySelector(".badges").replaceChildren(...badges);
  return tile;
}
