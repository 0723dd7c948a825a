/** One post of the grid: its picture, its marks, and the box that selects it. */

import { chosen } from "./chosen.js";
import { copyOf, icon, make } from "./dom.js";
import { TEXTS } from "./texts.js";

/** The tile of a post, new or updated. */
export function draw(known, post, index, all) {
  const tile = known ?? copyOf("tile-template");
  const link = tile.querySelector("a");
  const box = tile.querySelector("input");
  const selected = chosen.has(post.shortcode);
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
  tile.querySelector(".by").textContent = post.owner ?? post.shortcode;
  const picture = tile.querySelector(".picture");
  if (picture.firstElementChild?.getAttribute("src") !== post.thumbnail) {
    const none = icon(post.video ? "play" : "picture");
    if (post.thumbnail) {
      const image = make("img", { alt: "", decoding: "async", draggable: false });
      image.addEventListener("error", () => image.replaceWith(none));
      image.src = post.thumbnail;
      picture.replaceChildren(image);
    } else {
      picture.replaceChildren(none);
    }
  }
  const marks = [];
  if (post.kept) {
    marks.push(icon("star", "solid"));
  }
  if (post.slides > 1) {
    marks.push(make("span", { textContent: post.slides }), icon("slides"));
  } else if (post.video) {
    marks.push(icon("play", "solid"));
  }
  tile.querySelector(".marks").replaceChildren(...marks);
  return tile;
}
