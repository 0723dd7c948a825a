/** What a failure means to the person in front of the page, and what to do about it. */

import { Failure } from "./api.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

export function advice(failure) {
  const later = TEXTS.later(failure.retryAfter && duration(failure.retryAfter));
  const words = TEXTS.advice[failure.away ? "unreachable" : failure.code] ?? TEXTS.otherAdvice;
  return words(failure, later);
}

function duration(seconds) {
  if (seconds < 100) {
    return TEXTS.seconds(seconds);
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? TEXTS.minutes(minutes) : TEXTS.hours(Math.ceil(minutes / 60));
}

// A new post, a login or another link is needed first: the same request would fail the same way.
const FINAL = new Set(["invalid_url", "unsupported_link", "post_not_found", "media_too_large", "login_required"]);

/** Whether the same link can succeed at another time. */
export const canHelp = (code) => !FINAL.has(code);

/** Show a failed request as a message. Anything else is a fault, and is raised again. */
export function report(failure) {
  if (!(failure instanceof Failure)) {
    throw failure;
  }
  // The sign-in screen shows a 401.
  if (failure.status !== 401) {
    toast(advice(failure), { bad: true });
  }
}

/** Run *work*, and show its failure. */
export async function guarded(work) {
  try {
    return await work();
  } catch (failure) {
    return report(failure);
  }
}

/** Like `guarded`, for background work: if the server is away, the top of the page says so. */
export async function quietly(work) {
  try {
    await work();
  } catch (failure) {
    if (!failure.away) {
      report(failure);
    }
  }
}
