/** Messages that explain failures to the user, and what to do about them. */

import { Failure } from "./api.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

export function advice(failure) {
  const later = TEXTS.later(failure.retryAfter && duration(failure.retryAfter));
  const describe = TEXTS.advice[failure.unreachable ? "unreachable" : failure.code] ?? TEXTS.otherAdvice;
  return describe(failure, later);
}

function duration(seconds) {
  if (seconds < 100) {
    return TEXTS.seconds(seconds);
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? TEXTS.minutes(minutes) : TEXTS.hours(Math.ceil(minutes / 60));
}

// The same request would fail in the same way until there is another link or a login.
const FINAL = new Set(["invalid_url", "unsupported_link", "post_not_found", "media_too_large", "login_required"]);

/** Whether a retry with the same link can succeed. */
export const isRetryable = (code) => !FINAL.has(code);

/** Show a failed request as a message. Any other error is a bug, and is thrown again. */
export function report(failure) {
  if (!(failure instanceof Failure)) {
    throw failure;
  }
  // The sign-in screen shows a 401.
  if (failure.status !== 401) {
    toast(advice(failure), { error: true });
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

/** Like `guarded`, for background work: shows no message if the server is unreachable, because the top of the page does. */
export async function quietly(work) {
  try {
    await work();
  } catch (failure) {
    if (!failure.unreachable) {
      report(failure);
    }
  }
}
