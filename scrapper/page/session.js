/** The API key of whoever is at the page: it becomes a cookie that no script can read. */

import { request } from "./api.js";
import { at } from "./dom.js";
import { recall, remember } from "./storage.js";

const MARK = "signed-in";

// Only a mark, so that the page knows what to show. The cookie itself is out of its reach.
function mark(signedIn) {
  remember(MARK, signedIn ? "yes" : "");
  at("sign-out").hidden = !signedIn;
}

export const isSignedIn = () => recall(MARK) !== null;

export const restoreMark = () => mark(isSignedIn());

/** Turn the key in the field into a session; without a key, renew the session that is there. */
export async function signIn() {
  const key = at("key").value.trim();
  if (!key && !isSignedIn()) {
    return;
  }
  const headers = key ? { "X-API-Key": key } : {};
  const body = JSON.stringify({ keep: at("keep").checked });
  await request("session", { method: "POST", headers, body });
  if (key) {
    at("key").value = "";
    at("key-box").open = false;
  }
  mark(true);
}

export async function signOut() {
  mark(false);
  await request("session", { method: "DELETE" });
}
