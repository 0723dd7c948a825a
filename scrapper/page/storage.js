/** What this browser remembers of the page; without storage it remembers nothing. */

/** *kind* is `localStorage`, or `sessionStorage` for what belongs to one tab. */
export function recall(name, kind = "localStorage") {
  try {
    return window[kind].getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, text, kind = "localStorage") {
  try {
    if (text) {
      window[kind].setItem(name, text);
    } else {
      window[kind].removeItem(name);
    }
  } catch {
    // The page shows less, which is no reason to fail.
  }
}
