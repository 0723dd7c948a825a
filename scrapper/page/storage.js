/** What this browser remembers of the page; one that forbids storage remembers nothing. */

export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, text) {
  try {
    if (text) {
      localStorage.setItem(name, text);
    } else {
      localStorage.removeItem(name);
    }
  } catch {
    // The page shows less, which is no reason to fail.
  }
}
