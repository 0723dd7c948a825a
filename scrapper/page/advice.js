/** Messages that explain failures and how to fix them. */

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

// Another attempt with the same link and login would fail in the same way.
const FINAL = new Set(["invalid_url", "unsupported_link", "post_not_found", "media_too_large", "login_required"]);

/** Whether a retry with the same link can succeed. */
export const isRetryable = (code) => !FINAL.has(code);

/** Show a message about a failed request. Any other error is a bug, and is thrown again. */
export function report(failure) {
  if (!(failure instanceof Failure)) {
    throw failure;
  }
  // After a 401, the page shows the sign-in form instead.
  if (failure.status !== 401) {
    toast(advice(failure), { error: true });
  }
}

/** Run *work*, and report a failure. */
export async function guarded(work) {
  try {
    return await work();
  } catch (failure) {
    return report(failure);
  }
}

/**
 * Like `guarded`, for background work. It shows no message if the server is unreachable, because the top
 * of the page shows that.
 */
export async function quietly(work) {
  try {
    await work();
  } catch (failure) {
    if (!failure.unreachable) {
      report(failure);
    }
  }
}
