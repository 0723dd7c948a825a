/** The page: its form, its key, and what it shows at the start. */

import { guarded } from "./advice.js";
import { at } from "./dom.js";
import { submit } from "./downloads.js";
import { showLogin } from "./login.js";
import { listMore, listStored } from "./posts.js";

const KEPT_KEY = "api-key";

function keepKey() {
  try {
    if (at("keep").checked) {
      localStorage.setItem(KEPT_KEY, at("key").value.trim());
    } else {
      localStorage.removeItem(KEPT_KEY);
    }
  } catch {
    // A browser that forbids storage keeps nothing, which is no reason to fail.
    at("keep").checked = false;
  }
}

function restoreKey() {
  try {
    at("key").value = localStorage.getItem(KEPT_KEY) ?? "";
  } catch {
    at("key").value = "";
  }
  at("keep").checked = Boolean(at("key").value);
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const pressed = event.submitter ?? at("form").querySelector("button");
  pressed.disabled = true;
  guarded(() => submit(keepKey)).finally(() => {
    pressed.disabled = false;
  });
});
at("links").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});
at("keep").addEventListener("change", keepKey);
at("key").addEventListener("change", () => {
  keepKey();
  guarded(() => Promise.all([listStored(), showLogin()]));
});
at("more").addEventListener("click", async () => {
  at("more").disabled = true;
  await guarded(listMore);
  at("more").disabled = false;
});

restoreKey();
guarded(() => Promise.all([listStored(), showLogin()]));
