/** The Instagram login: its state, and the form to change it. */

import { advice } from "./advice.js";
import { Failure, readJSON, request } from "./api.js";
import { byId } from "./dom.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";

// The server returns a 403 as long as it has no key, so the page remembers this answer.
const KEYLESS = "keyless";
const UNUSABLE = new Set(["expired", "challenged"]);

let onState = () => {};

/** Show the login state that GET /login returned. */
export function showLogin({ state, username, since }) {
  const who = username ? TEXTS.as(username) : "";
  const text = TEXTS.loginStates[state](who, since ? TEXTS.moment(since) : "");
  byId("login-state").textContent = text;
  byId("login-form").hidden = false;
  byId("forget").hidden = state === "none";
  byId("login-problem").hidden = !UNUSABLE.has(state);
  byId("login-problem-text").textContent = UNUSABLE.has(state) ? text : "";
  onState({ state });
}

/** Load and show the login state, or explain how to set a key if the server has none. */
export async function loadLogin() {
  try {
    const login = await readJSON("login");
    remember(KEYLESS, "");
    showLogin(login);
  } catch (failure) {
    if (failure.status !== 403) {
      throw failure;
    }
    remember(KEYLESS, "yes");
    byId("login-state").textContent = TEXTS.loginNeedsKey;
    byId("login-form").hidden = true;
    byId("login-problem").hidden = true;
  }
}

/** Like `loadLogin`, but do nothing if the server is known to have no key. */
export const loadKnownLogin = async () => recall(KEYLESS) ?? loadLogin();

async function attempt(work) {
  const notice = byId("login-error");
  notice.hidden = true;
  const buttons = byId("login-form").querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  try {
    await work();
  } catch (failure) {
    if (!(failure instanceof Failure)) {
      throw failure;
    }
    notice.hidden = false;
    // The usual advice for a 403 would only lead back to this form.
    notice.textContent = failure.status === 403 ? `${failure.message}.` : advice(failure);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

async function replace() {
  const text = byId("cookies").value;
  if (!text.trim()) {
    byId("cookies").focus();
    return;
  }
  const response = await request("login", { method: "PUT", body: text });
  byId("cookies").value = "";
  showLogin(await response.json());
}

async function forget() {
  await request("login", { method: "DELETE" });
  await loadLogin();
}

/** Connect the form. *changed* is called with each new login state. */
export function watchLogin(changed) {
  onState = changed;
  // The server asked for a key, so it has one.
  document.addEventListener("signed-out", () => remember(KEYLESS, ""));
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(replace);
  });
  byId("forget").addEventListener("click", () => attempt(forget));
}
