/** Exchanges the visitor's API key for a cookie that scripts cannot read. */

import { advice, guarded } from "./advice.js";
import { Failure, request, send } from "./api.js";
import { byId } from "./dom.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";

// The page cannot read the cookie, so it stores whether it is signed in.
const SIGNED_IN = "signed-in";

function setSignedIn(signedIn) {
  remember(SIGNED_IN, signedIn ? "yes" : "");
  byId("sign-out").hidden = !signedIn;
}

function showSignIn(needed) {
  const focus = needed && byId("sign-in").hidden;
  byId("sign-in").hidden = !needed;
  byId("app").hidden = needed;
  byId("open-settings").hidden = needed;
  if (focus) {
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    byId("key").focus();
  }
}

async function signIn() {
  const typed = byId("key").value.trim();
  byId("key-error").hidden = true;
  if (!typed) {
    byId("key").focus();
    return;
  }
  const body = JSON.stringify({ keep: byId("stay").checked });
  await request("session", { method: "POST", headers: { "X-API-Key": typed }, body });
  byId("key").value = "";
  setSignedIn(true);
  showSignIn(false);
}

async function signOut() {
  setSignedIn(false);
  await send("session", "DELETE");
  location.reload();
}

/** Connect the sign-in form. *signedIn* is called after a sign-in, *signedOut* when the server requires a key. */
export function watchSession(signedIn, signedOut) {
  byId("sign-out").hidden = recall(SIGNED_IN) === null;
  document.addEventListener("signed-out", () => {
    setSignedIn(false);
    showSignIn(true);
    signedOut();
  });
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("sign-in-form").querySelector("[type=submit]");
    button.disabled = true;
    try {
      await signIn();
      if (byId("sign-in").hidden) {
        signedIn();
      }
    } catch (failure) {
      if (!(failure instanceof Failure)) {
        throw failure;
      }
      byId("key-error").textContent = failure.status === 401 ? TEXTS.wrongKey : advice(failure);
      byId("key-error").hidden = false;
      byId("key").select();
    } finally {
      button.disabled = false;
    }
  });
  byId("sign-out").addEventListener("click", () => guarded(signOut));
}
