/** The card of the Instagram login, for whoever has the key. */

import { Failure, readJSON, request } from "./api.js";
import { advice } from "./advice.js";
import { at } from "./dom.js";
import { isSignedIn } from "./session.js";
import { TEXTS } from "./texts.js";

function show({ state, username, since }) {
  const who = username ? TEXTS.as(username) : "";
  const when = since ? new Date(since).toLocaleString() : "";
  at("login-state").textContent = TEXTS.loginStates[state](who, when);
  at("login-box").open ||= state === "expired" || state === "challenged";
  at("forget").hidden = state === "none";
  at("login").hidden = false;
}

/** Show the login's state; without a key, there is no card. */
export async function showLogin() {
  if (!isSignedIn()) {
    at("login").hidden = true;
    return;
  }
  try {
    show(await readJSON("login"));
  } catch (failure) {
    at("login").hidden = true;
    if (failure.code !== "unauthorized") {
      throw failure;
    }
  }
}

async function attempt(work) {
  const place = at("login-notice");
  place.hidden = true;
  const buttons = at("login-form").querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  try {
    await work();
  } catch (failure) {
    if (!(failure instanceof Failure)) {
      throw failure;
    }
    place.hidden = false;
    // The advice for a post that needs a login would lead here.
    place.textContent = failure.status === 403 ? `${failure.message}.` : advice(failure);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

async function replace() {
  const text = at("cookies").value;
  if (!text.trim()) {
    at("cookies").focus();
    return;
  }
  const response = await request("login", { method: "PUT", body: text });
  at("cookies").value = "";
  at("login-box").open = false;
  show(await response.json());
}

async function forget() {
  await request("login", { method: "DELETE" });
  at("login-box").open = false;
  await showLogin();
}

at("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(replace);
});
at("forget").addEventListener("click", () => attempt(forget));
