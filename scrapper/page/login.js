/** The Instagram login: its state, and the form to change it. */

import { advice } from "./advice.js";
import { Failure, readJSON, request } from "./api.js";
import { at } from "./dom.js";
import { recall, remember } from "./storage.js";
import { TEXTS } from "./texts.js";

// The server answers 403 for as long as it has no key: one answer is enough.
const KEYLESS = "keyless";
const TROUBLE = new Set(["expired", "challenged"]);

let known = () => {};

/** Show a login's state, as GET /login gives it. */
export function showLogin({ state, username, since }) {
  const who = username ? TEXTS.as(username) : "";
  const text = TEXTS.loginStates[state](who, since ? TEXTS.moment(since) : "");
  at("login-state").textContent = text;
  at("login-form").hidden = false;
  at("forget").hidden = state === "none";
  at("login-trouble").hidden = !TROUBLE.has(state);
  at("login-trouble-text").textContent = TROUBLE.has(state) ? text : "";
  known({ state });
}

/** Show the login's state; without a key, how to set one. */
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
    at("login-state").textContent = TEXTS.loginNeedsKey;
    at("login-form").hidden = true;
    at("login-trouble").hidden = true;
  }
}

/** Like `loadLogin`, unless this browser knows that the server has no key. */
export const loadKnownLogin = async () => recall(KEYLESS) ?? loadLogin();

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
  showLogin(await response.json());
}

async function forget() {
  await request("login", { method: "DELETE" });
  await loadLogin();
}

/** *changed* is called with each state that becomes known. */
export function watchLogin(changed) {
  known = changed;
  // A server that asks for a key has one.
  document.addEventListener("signed-out", () => remember(KEYLESS, ""));
  at("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(replace);
  });
  at("forget").addEventListener("click", () => attempt(forget));
}
