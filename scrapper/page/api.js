/** Requests to the server. */

const LONGEST_WAIT_SECONDS = 10;

export const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** A failed request. *code* identifies the reason; *status* is 0 if there was no response. */
export class Failure extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the server does not answer, or a proxy in front of it reports that it does not. */
  get unreachable() {
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
  // A proxy's own errors have no code.
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) {
    document.dispatchEvent(new Event("signed-out"));
  }
  const seconds = Number(response.headers.get("Retry-After")) || null;
  throw new Failure(response.status, body.code ?? "unknown", body.error ?? response.statusText, seconds);
}

/** Send a request that changes nothing. If the rate limit requires a short wait, wait and retry. */
export async function read(path, options) {
  for (;;) {
    try {
      return await request(path, options);
    } catch (failure) {
      const short = failure.retryAfter && failure.retryAfter <= LONGEST_WAIT_SECONDS;
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
