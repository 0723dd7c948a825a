/** Changes any number of stored posts. */

import { send } from "./api.js";

const MAX_POSTS = 500;

/** Split *items* into lists of at most *size*. */
export function chunks(items, size) {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/**
 * Apply *action* (`keep`, `release` or `delete`) to the posts, and return the shortcodes of those for
 * which it failed.
 */
export async function bulk(shortcodes, action) {
  const failed = [];
  for (const chunk of chunks(shortcodes, MAX_POSTS)) {
    const { posts } = await (await send("posts/bulk", "POST", { shortcodes: chunk, action })).json();
    // A post that another client has deleted is not a failure.
    failed.push(...posts.filter((post) => post.status >= 400 && post.code !== "not_stored"));
  }
  return failed.map((post) => post.shortcode);
}
