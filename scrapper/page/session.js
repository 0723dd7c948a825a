/** The visitor's API key: it becomes a cookie that no script can read. */

import { advice, guarded } from "./advice.js";
import { Failure, request, send } from "./api.js";
import { at } from "./dom.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";

// Only a mark, so that the page knows what to show. The cookie itself is out of the page's reach.
const MARK = "signed-in";

function mark(signedIn) {
  remember(MARK, signedIn ? "yes" : "");
  at("sign-out").hidden = !signedIn;
}

function showSignIn(needed) {
  const focus = needed && at("sign-in").hidden;
  at("sign-in").hidden = !needed;
  at("app").hidden = needed;
  at("open-settings").hidden = needed;
  if (focus) {
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    at("key").focus();
  }
}

async function signIn() {
  const typed = at("key").value.trim();
  at("key-error").hidden = true;
  if (!typed) {
    at("key").focus();
    return;
  }
  const body = JSON.stringify({ keep: at("stay").checked });
  await request("session", { method: "POST", headers: { "X-API-Key": typed }, body });
  at("key").value = "";
  mark(true);
  showSignIn(false);
}

async function signOut() {
  mark(false);
  await send("session", "DELETE");
  location.reload();
}

/** *signedIn* is called when somebody signed in, *signedOut* when the server asks for a key. */
export function watchSession(signedIn, signedOut) {
  at("sign-out").hidden = recall(MARK) === null;
  document.addEventListener("signed-out", () => {
    mark(false);
    showSignIn(true);
    signedOut();
  });
  at("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = at("sign-in-form").querySelector("[type=submit]");
    button.disabled = true;
    try {
      await signIn();
      if (at("sign-in").hidden) {
        signedIn();
      }
    } catch (failure) {
      if (!(failure instanceof Failure)) {
        throw failure;
      }
      at("key-error").textContent = failure.status === 401 ? TEXTS.wrongKey : advice(failure);
      at("key-error").hidden = false;
      at("key").select();
    } finally {
      button.disabled = false;
    }
  });
  at("sign-out").addEventListener("click", () => guarded(signOut));
}
