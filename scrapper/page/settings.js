/** The panel behind the gear: the Instagram login, and how links get here from elsewhere. */

import { at } from "./dom.js";
import { place } from "./toast.js";

export function watchSettings() {
  const dialog = at("settings");
  const open = () => {
    dialog.showModal();
    place();
  };
  at("open-settings").addEventListener("click", open);
  at("mend-login").addEventListener("click", open);
  at("close-settings").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    // The dialog itself is what is around its content.
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
