/** The state of the server: how much is stored, how much space is left, and whether the server answers. */

import { readJSON } from "./api.js";
import { byId } from "./dom.js";
import { TEXTS } from "./texts.js";

export async function showStorage() {
  const storage = await readJSON("storage");
  byId("storage").textContent = TEXTS.storage(storage);
  // If posts are never removed automatically, the switch would have no effect.
  byId("keep-new").closest("label").hidden = !storage.max_age_days;
}

/** Show whether the server is unreachable. */
export function showConnection(unreachable) {
  document.body.classList.toggle("offline", unreachable);
  byId("connection").textContent = unreachable ? TEXTS.reconnecting : "";
}
