/** The settings panel: the Instagram login, and help on sending links from other apps. */

import { byId } from "./dom.js";
import { placeToasts } from "./toast.js";

let onOpen = () => {};

export function openSettings() {
  byId("settings").showModal();
  placeToasts();
  onOpen();
}

/** Connect the panel. *whenOpen* is called each time it opens. */
export function watchSettings(whenOpen) {
  const dialog = byId("settings");
  onOpen = whenOpen;
  byId("open-settings").addEventListener("click", openSettings);
  byId("fix-login").addEventListener("click", openSettings);
  byId("close-settings").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    // If the target of a click is the dialog itself, the click was outside its content.
    if (event.target === dialog) {
      dialog.close();
    }
  });
  dialog.addEventListener("close", placeToasts);
  const here = new URL(".", location.href).href;
  byId("bookmarklet").href =
    `javascript:window.open(${JSON.stringify(`${here}?url=`)}+encodeURIComponent(location.href))`;
  byId("bookmarklet").addEventListener("click", (event) => event.preventDefault());
  byId("shortcut-address").value = `${here}download?url=`;
}
