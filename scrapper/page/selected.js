/** The shortcodes of the selected posts. */

export const selectedPosts = new Set();
