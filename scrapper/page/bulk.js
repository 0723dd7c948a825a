/** Changes to any number of stored posts. */

import { send } from "./api.js";

const MOST_AT_ONCE = 500;

/** The items in lists of at most *most*. */
export function parts(many, most) {
  return Array.from({ length: Math.ceil(many.length / most) }, (_, part) => many.slice(part * most, (part + 1) * most));
}

/** Do *action* (`keep`, `release` or `delete`) to the posts; returns those for which it failed. */
export async function bulk(shortcodes, action) {
  const failed = [];
  for (const part of parts(shortcodes, MOST_AT_ONCE)) {
    const { posts } = await (await send("posts/bulk", "POST", { shortcodes: part, action })).json();
    // A post that somebody else deleted meanwhile is not a failure.
    failed.push(...posts.filter((post) => post.status >= 400 && post.code !== "not_stored"));
  }
  return failed.map((post) => post.shortcode);
}
