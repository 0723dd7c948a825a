/** What a failure means to the person in front of the page, and what to do about it. */

import { Failure } from "./api.js";
import { at } from "./dom.js";
import { TEXTS } from "./texts.js";

export function advice(failure) {
  const later = TEXTS.later(failure.retryAfter && duration(failure.retryAfter));
  const told = TEXTS.advice[failure.code] ?? TEXTS.otherAdvice;
  return told(failure, later);
}

function duration(seconds) {
  if (seconds < 100) {
    return TEXTS.seconds(seconds);
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? TEXTS.minutes(minutes) : TEXTS.hours(Math.ceil(minutes / 60));
}

export function notice(failure) {
  const place = at("notice");
  place.hidden = !failure;
  place.textContent = failure ? advice(failure) : "";
  if (failure?.code === "unauthorized") {
    at("key-box").open = true;
    at("key").focus();
  }
}

/** Run *work* and show its failure; *anew*, as on a press of a button, hides the last one. */
export async function guarded(work, anew = true) {
  if (anew) {
    notice(null);
  }
  try {
    await work();
  } catch (failure) {
    if (!(failure instanceof Failure)) {
      throw failure;
    }
    notice(failure);
  }
}
