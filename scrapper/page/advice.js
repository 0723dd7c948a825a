/** What a failure means to the person in front of the page, and what to do about it. */

import { Failure } from "./api.js";
import { at } from "./dom.js";

const LOGIN = "Whoever runs this server can give it a login.";

const ADVICE = {
  unreachable: () => "The server does not answer: check that it runs, then try again.",
  unauthorized: () => "The API key is missing or wrong: type it in the field above.",
  invalid_url: () => "This is not the link of an Instagram post: copy it from the post's share menu.",
  login_required: ({ message }) => `${message}. ${LOGIN}`,
  challenge_required: ({ message }) => `${message}.`,
  post_not_found: () => "This post does not exist, or was removed: check the link.",
  job_forgotten: ({ message }) => `${message}: send the link again.`,
  body_too_large: () => "These are too many links at once: send fewer.",
  too_many_requests: (_, later) => `This server limits how much you may ask: ${later}.`,
  instagram_rate_limited: (_, later) => `Instagram asks to wait: ${later}.`,
  cooling_down: (_, later) => `Instagram asks to wait: ${later}.`,
  pace_exceeded: (_, later) => `This server asks Instagram slowly, so as not to be blocked: ${later}.`,
  instagram_changed: ({ message }) => `${message}: try again, and if it stays so, this server may need an update.`,
};

export function advice(failure) {
  const { status, code, message, retryAfter } = failure;
  const later = retryAfter ? `try again in ${duration(retryAfter)}` : "try again later";
  const known = ADVICE[code];
  if (known) {
    return known(failure, later);
  }
  return status === 400 ? `${message}.` : `${message}: ${later}.`;
}

function duration(seconds) {
  if (seconds < 100) {
    return `${seconds} s`;
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = bytes ? Math.min(3, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${(bytes / 1000 ** power).toFixed(power > 1 ? 1 : 0)} ${units[power]}`;
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
