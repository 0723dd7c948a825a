/** The state of the server: what is stored, how much room is left, and whether the server answers. */

import { readJSON } from "./api.js";
import { at } from "./dom.js";
import { TEXTS } from "./texts.js";

export async function showStorage() {
  const storage = await readJSON("storage");
  at("storage").textContent = TEXTS.storage(storage);
  // If nothing is removed, there is nothing to choose.
  at("keep-new").closest("label").hidden = !storage.max_age_days;
}

/** Show that the server is away, or that it is there again. */
export function showAway(away) {
  document.body.classList.toggle("away", away);
  at("connection").textContent = away ? TEXTS.reconnecting : "";
}
