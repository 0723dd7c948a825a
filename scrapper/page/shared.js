/** Links that come from elsewhere: in the address, as the share sheet and the bookmarklet put them. */

import { at } from "./dom.js";

/** Put what the address holds into the field. Nothing is sent: any page may lead here. */
export function takeShared() {
  const query = new URLSearchParams(location.search);
  const parts = ["url", "text", "title"].map((name) => query.get(name));
  let fragment = location.hash.slice(1);
  try {
    fragment = decodeURIComponent(fragment);
  } catch {
    // It is no percent-encoding, but may be a link as it stands.
  }
  const texts = [...parts, fragment].filter((text) => text && /instagram\.com\//i.test(text));
  if (!texts.length) {
    return;
  }
  at("links").value = [...new Set(texts)].join("\n");
  // So that a reload does not bring it back.
  history.replaceState(null, "", location.pathname);
  at("form").querySelector(".main").focus();
}

/** The panel that says how links get here. */
export function showHelp() {
  const here = new URL(".", location.href).href;
  at("bookmarklet").href =
    `javascript:window.open(${JSON.stringify(`${here}?url=`)}+encodeURIComponent(location.href))`;
  at("bookmarklet").addEventListener("click", (event) => event.preventDefault());
  at("shortcut-address").value = `${here}download?url=`;
}
