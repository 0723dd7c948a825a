/** Values stored in the browser; if its storage is unavailable, nothing is stored. */

/** *kind* is `localStorage`, or `sessionStorage` for values of this tab only. */
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
    // Storage is optional.
  }
}
