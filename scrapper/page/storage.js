/** Stores values in the browser, or nothing if the browser's storage is unavailable. */

/** Return a stored value, or null. *kind* is `localStorage`, or `sessionStorage` for values of this tab only. */
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
