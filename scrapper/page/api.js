/** Requests to the server. */

const LONGEST_WAIT = 10;

export const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** A request that failed: its code says why, and its status is 0 if no response came. */
export class Failure extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the server may simply be away: it does not answer, or a proxy in front says so. */
  get away() {
    return this.status === 0 || (this.code === "unknown" && this.status >= 500);
  }
}

export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) {
      throw error;
    }
    throw new Failure(0, "unreachable", "The server does not answer");
  }
  if (response.ok) {
    return response;
  }
  // A proxy in front has errors of its own, which have no code.
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) {
    document.dispatchEvent(new Event("signed-out"));
  }
  const seconds = Number(response.headers.get("Retry-After")) || null;
  throw new Failure(response.status, body.code ?? "unknown", body.error ?? response.statusText, seconds);
}

/** A request that only reads: if the rate limit asks for a short wait, it waits and tries again. */
export async function read(path, options) {
  for (;;) {
    try {
      return await request(path, options);
    } catch (failure) {
      const short = failure.retryAfter && failure.retryAfter <= LONGEST_WAIT;
      if (failure.code !== "too_many_requests" || !short) {
        throw failure;
      }
      await wait(failure.retryAfter);
    }
  }
}

export const readJSON = async (path) => (await read(path)).json();

export const send = (path, method, body) =>
  request(path, { method, body: body === undefined ? undefined : JSON.stringify(body) });
