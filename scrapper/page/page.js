/** The page: how its parts work together, and the server's events that keep them up to date. */

import { guarded, quietly } from "./advice.js";
import { at, soon } from "./dom.js";
import { follow } from "./events.js";
import { focusField, putBack, watchField } from "./field.js";
import { openAt, watchFilters } from "./filters.js";
import { list, takePost, watchGallery } from "./gallery.js";
import { knowLogin, loadJobs, show, takeJob, watchJobs } from "./jobs.js";
import { loadKnownLogin, loadLogin, showLogin, watchLogin } from "./login.js";
import { pump, watchOutbox } from "./outbox.js";
import { clearSelection, deselect, watchSelection } from "./selection.js";
import { watchSession } from "./session.js";
import { watchSettings } from "./settings.js";
import { showAway, showStorage } from "./standing.js";
import { fill } from "./texts.js";
import { showOpened, takeShownPost, watchViewer } from "./viewer.js";

const STORAGE_PAUSE_MS = 1_000;
const PATIENCE_MS = 3_000;

let stream = null;
let loaded = false;

function loadAll() {
  loaded = true;
  return Promise.all([list, loadJobs, showStorage, loadKnownLogin].map(quietly));
}

const storageSoon = soon(() => quietly(showStorage), STORAGE_PAUSE_MS);

const EVENTS = {
  reset: loadAll,
  job: (change) => takeJob(change),
  post: (change) => {
    takePost(change);
    if (change.change === "removed") {
      deselect(change.shortcode);
    }
    takeShownPost(change);
    storageSoon();
  },
  login: showLogin,
};

function begin() {
  if (stream || document.hidden) {
    return;
  }
  stream = new AbortController();
  // A proxy may buffer the stream.
  setTimeout(() => loaded || at("app").hidden || loadAll(), PATIENCE_MS);
  follow(stream.signal, (name, data) => EVENTS[name]?.(data), (failure) => {
    showAway(Boolean(failure?.away));
    // Without a stream the page polls.
    if (failure && !failure.away) {
      loadAll();
    }
    if (!failure) {
      pump();
    }
  });
}

function end() {
  stream?.abort();
  stream = null;
}

fill(document);
watchSession(() => {
  loaded = false;
  begin();
  focusField();
  showOpened();
}, end);
watchGallery();
watchFilters({
  listed: () => {
    clearSelection();
    guarded(list);
  },
  shown: showOpened,
});
watchJobs(openAt);
watchLogin(knowLogin);
watchOutbox({ changed: show, accepted: (job) => takeJob(job, true), refused: putBack });
watchSelection(openAt);
watchSettings(() => quietly(loadLogin));
watchViewer();
watchField();
// A browser allows six connections to a server: hidden windows must not occupy them.
document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
begin();
navigator.serviceWorker?.register("worker.js").catch(() => {
  // Private windows, for example, forbid the worker; the page needs it only to start without the server.
});
