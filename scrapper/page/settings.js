/** The panel behind the gear: the Instagram login, and how links get here from elsewhere. */

import { at } from "./dom.js";
import { place } from "./toast.js";

let opened = () => {};

export function openSettings() {
  at("settings").showModal();
  place();
  opened();
}

/** *whenOpen* is called each time the panel opens. */
export function watchSettings(whenOpen) {
  const dialog = at("settings");
  opened = whenOpen;
  at("open-settings").addEventListener("click", openSettings);
  at("mend-login").addEventListener("click", openSettings);
  at("close-settings").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    // A click on the dialog itself is outside of its content.
    if (event.target === dialog) {
      dialog.close();
    }
  });
  dialog.addEventListener("close", place);
  const here = new URL(".", location.href).href;
  at("bookmarklet").href =
    `javascript:window.open(${JSON.stringify(`${here}?url=`)}+encodeURIComponent(location.href))`;
  at("bookmarklet").addEventListener("click", (event) => event.preventDefault());
  at("shortcut-address").value = `${here}download?url=`;
}
