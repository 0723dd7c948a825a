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

// The last key that was typed, until the page is left: only it renews the session.
let typed = "";
let before = Promise.resolve();

async function begin() {
  typed = at("key").value.trim() || typed;
  if (!typed) {
    at("key").focus();
    return;
  }
  const body = JSON.stringify({ keep: at("keep").checked });
  await request("session", { method: "POST", headers: { "X-API-Key": typed }, body });
  if (at("key").value) {
    at("key").value = "";
    at("key-box").open = false;
  }
  mark(true);
}

/** Turn the key in the field into a session, or renew the one of the key that was there. */
export function signIn() {
  before = before.catch(() => {}).then(begin);
  return before;
}

export async function signOut() {
  typed = "";
  mark(false);
  await request("session", { method: "DELETE" });
}
