/** Connects the parts of the page, and keeps them up to date with the server's events. */

import { guarded, quietly } from "./advice.js";
import { byId, throttle } from "./dom.js";
import { follow } from "./events.js";
import { focusField, restore, watchField } from "./field.js";
import { openAt, watchFilters } from "./filters.js";
import { applyPostEvent, reload, watchGallery } from "./gallery.js";
import { applyJob, loadJobs, setLogin, show, watchJobs } from "./jobs.js";
import { loadKnownLogin, loadLogin, showLogin, watchLogin } from "./login.js";
import { flush, watchOutbox } from "./outbox.js";
import { clearSelection, deselect, watchSelection } from "./selection.js";
import { watchSession } from "./session.js";
import { watchSettings } from "./settings.js";
import { showConnection, showStorage } from "./status.js";
import { fill } from "./texts.js";
import { refreshShownPost, showOpened, watchViewer } from "./viewer.js";

const STORAGE_PAUSE_MS = 1_000;
const STREAM_TIMEOUT_MS = 3_000;

let stream = null;
let loaded = false;

function loadAll() {
  loaded = true;
  return Promise.all([reload, loadJobs, showStorage, loadKnownLogin].map(quietly));
}

const storageSoon = throttle(() => quietly(showStorage), STORAGE_PAUSE_MS);

const EVENTS = {
  reset: loadAll,
  job: (change) => applyJob(change),
  post: (change) => {
    applyPostEvent(change);
    if (change.change === "removed") {
      deselect(change.shortcode);
    }
    refreshShownPost(change);
    storageSoon();
  },
  login: showLogin,
};

function connect() {
  if (stream || document.hidden) {
    return;
  }
  stream = new AbortController();
  // A proxy may buffer the stream, so load without it after a while.
  setTimeout(() => loaded || byId("app").hidden || loadAll(), STREAM_TIMEOUT_MS);
  follow(stream.signal, (name, data) => EVENTS[name]?.(data), (failure) => {
    showConnection(Boolean(failure?.unreachable));
    // Without a stream, the page reloads everything at each attempt to open one.
    if (failure && !failure.unreachable) {
      loadAll();
    }
    if (!failure) {
      flush();
    }
  });
}

function disconnect() {
  stream?.abort();
  stream = null;
}

fill(document);
watchSession(() => {
  loaded = false;
  connect();
  focusField();
  showOpened();
}, disconnect);
watchGallery();
watchFilters({
  listed: () => {
    clearSelection();
    guarded(reload);
  },
  shown: showOpened,
});
watchJobs(openAt);
watchLogin(setLogin);
watchOutbox({ changed: show, accepted: (job) => applyJob(job, true), refused: restore });
watchSelection(openAt);
watchSettings(() => quietly(loadLogin));
watchViewer();
watchField();
// A browser allows six connections per server, so hidden windows must not use any.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
connect();
navigator.serviceWorker?.register("worker.js").catch(() => {
  // For example, private windows do not allow service workers. The page needs one only to open offline.
});
