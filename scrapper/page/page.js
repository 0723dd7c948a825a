/** The page: its form, its key, and what it shows at the start. */

import { guarded } from "./advice.js";
import { at } from "./dom.js";
import { resume, retryAll, submit } from "./downloads.js";
import { showLogin } from "./login.js";
import { listStored, watchSearch } from "./posts.js";
import { restoreMark, signIn, signOut } from "./session.js";
import { showHelp, takeShared } from "./shared.js";
import { fill } from "./texts.js";

const showAll = () => Promise.all([listStored(), showLogin(), resume()]);

fill(document);
takeShared();
showHelp();
watchSearch();

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const pressed = at("form").querySelector(".main");
  // Ctrl and Enter submit whether the button is disabled or not.
  if (pressed.disabled) {
    return;
  }
  pressed.disabled = true;
  guarded(async () => {
    if (at("key").value) {
      await signIn();
      await showAll();
    }
    await submit();
  }).finally(() => {
    pressed.disabled = false;
  });
});
at("links").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});
at("key").addEventListener("change", () => {
  guarded(async () => {
    await signIn();
    await showAll();
  });
});
at("keep").addEventListener("change", () => guarded(signIn));
at("sign-out").addEventListener("click", () => {
  guarded(async () => {
    await signOut();
    location.reload();
  });
});
at("retry-all").addEventListener("click", () => guarded(retryAll));

restoreMark();
guarded(showAll);
