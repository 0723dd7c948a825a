/** Which posts are selected. */

export const chosen = new Set();
