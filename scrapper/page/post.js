/** A stored post on the page: its files, its caption, and what can be done with it. */

import { request } from "./api.js";
import { button, copyButton } from "./buttons.js";
import { nodesOf } from "./caption.js";
import { copyOf } from "./dom.js";
import { TEXTS } from "./texts.js";

function save(path, name) {
  const link = document.createElement("a");
  link.href = path;
  link.download = name;
  link.click();
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = bytes ? Math.min(3, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${(bytes / 1000 ** power).toFixed(power > 1 ? 1 : 0)} ${units[power]}`;
}

function length(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function preview(item, thumbnail, alt) {
  const made = document.createElement({ video: "video", audio: "audio" }[item.type] ?? "img");
  if (item.type !== "image") {
    made.controls = true;
    made.playsInline = true;
    made.preload = "metadata";
    made.setAttribute("aria-label", alt);
    if (thumbnail) {
      made.poster = thumbnail.url;
    }
  } else {
    made.alt = alt;
    made.loading = "lazy";
  }
  made.src = item.url;
  return made;
}

function keepButton(post, stays) {
  const made = button("", async () => {
    await request(`posts/${post.shortcode}/keep`, { method: post.kept ? "DELETE" : "PUT" });
    post.kept = !post.kept;
    show();
  });
  const show = () => {
    made.textContent = post.kept ? TEXTS.kept : TEXTS.keep;
    made.setAttribute("aria-pressed", post.kept);
    stays.textContent = post.expires_at && !post.kept ? TEXTS.stays(post.expires_at) : "";
  };
  show();
  return made;
}

function actionsOf(post, stays, remove) {
  const many = post.media.length > 1;
  let number = 0;
  const actions = post.media.map((item) => {
    do {
      number += 1;
    } while (post.missing.includes(number));
    const path = `download/${post.shortcode}?item=${number}`;
    const numbered = item.type === "audio" ? TEXTS.saveSound : TEXTS.saveNumber(number);
    const made = button(many ? numbered : TEXTS.save, () =>
      save(path, item.url.split("/").pop()));
    made.title = TEXTS.fileTitle(item.type, size(item.size));
    return made;
  });
  if (many) {
    actions.push(button(TEXTS.saveAll, () =>
      save(`download/${post.shortcode}?archive=zip`, `${post.shortcode}.zip`)));
  }
  if (post.description) {
    actions.push(copyButton(TEXTS.copyCaption, post.description));
  }
  actions.push(keepButton(post, stays));
  if (remove) {
    actions.push(button(TEXTS.remove, remove, "danger"));
  }
  return actions;
}

/** Likes, coauthors, place and length, as far as Instagram tells them. */
function detailsOf({ details, media }) {
  const video = media.find((item) => item.duration);
  return [
    details.likes === null ? "" : TEXTS.likes(details.likes),
    details.coauthors.length ? TEXTS.coauthors(details.coauthors) : "",
    details.location ?? "",
    video ? length(video.duration) : "",
  ].filter(Boolean).join(" · ");
}

export function showPost(post, remove = null) {
  const made = copyOf("post-template");
  const name = made.querySelector(".name");
  name.textContent = post.owner ? `${post.owner}, ${post.shortcode}` : post.shortcode;
  name.href = `https://www.instagram.com/p/${post.shortcode}/`;
  made.querySelector(".when").textContent = post.taken_at ? new Date(post.taken_at).toLocaleDateString() : "";
  made.querySelector(".details").textContent = detailsOf(post);
  made.querySelector(".caption").append(...nodesOf(post.description));
  const stays = made.querySelector(".stays");
  made.querySelector(".actions").append(...actionsOf(post, stays, remove && (() => remove(made))));
  const place = made.querySelector(".media");
  if (post.media.length > 1) {
    place.classList.add("many");
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", TEXTS.files(post.media.length));
  }
  const cover = post.media.find((item) => item.type === "video");
  for (const [index, item] of post.media.entries()) {
    const alt = item.alt_text || TEXTS.item(item.type, index + 1, post.media.length, post.owner);
    place.append(preview(item, item === cover ? post.thumbnail : null, alt));
  }
  return made;
}
