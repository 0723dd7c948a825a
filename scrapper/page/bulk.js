/** Changes to stored posts, however many. */

import { send } from "./api.js";

const MOST_AT_ONCE = 500;

/** Lists of at most *most* of them. */
export function parts(many, most) {
  return Array.from({ length: Math.ceil(many.length / most) }, (_, part) => many.slice(part * most, (part + 1) * most));
}

/** Have the server do *action* (`keep`, `release` or `delete`); returns the posts with which it could not. */
export async function bulk(shortcodes, action) {
  const failed = [];
  for (const part of parts(shortcodes, MOST_AT_ONCE)) {
    const { posts } = await (await send("posts/bulk", "POST", { shortcodes: part, action })).json();
    // What somebody else deleted meanwhile needs nothing.
    failed.push(...posts.filter((post) => post.status >= 400 && post.code !== "not_stored"));
  }
  return failed.map((post) => post.shortcode);
}
