/** All texts of the page. */

const LOCALE = "en-GB";
const NAMES = { video: "Video", image: "Picture", audio: "Audio" };
const NUMBER = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long" });
const DATE = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long", year: "numeric" });
const TIME = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });

const moment = (when) => `${DATE.format(new Date(when))}, ${TIME.format(new Date(when))}`;
const plural = (number, one, many = `${one}s`) => `${NUMBER.format(number)} ${number === 1 ? one : many}`;

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes > 0 ? Math.min(4, Math.floor(Math.log10(bytes) / 3)) : 0;
  const number = bytes / 1000 ** power;
  return `${number.toFixed(power > 1 && number < 10 ? 1 : 0)} ${units[power]}`;
}

function length(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** The time, such as "14:05", with the day if it is not today. */
function clock(when) {
  const date = new Date(when);
  const today = date.toDateString() === new Date().toDateString();
  return today ? TIME.format(date) : `${TIME.format(date)} on ${DAY.format(date)}`;
}

const KINDS = { reel: "Reel", reels: "Reel", tv: "Video", p: "Post", share: "Shared link", stories: "Story", s: "Highlight" };

/** A short name for the target of a link. */
function nameOfLink(link) {
  const path = /instagram\.com\/(.*?)\/?(?:[?#].*)?$/.exec(link)?.[1];
  if (!path) {
    return link;
  }
  const parts = path.split("/");
  const kind = parts.find((part) => KINDS[part]);
  return kind ? `${KINDS[kind]} ${parts.at(-1)}` : path;
}

/** Why links wait to be sent, by the error's code. */
const LIMITS = {
  too_many_requests: "you have reached this server's request limit",
  jobs_full: "this server has too much to do",
  server_full: "this server has too much to do",
  jobs_unreachable: "this server cannot accept downloads for now",
  busy: "this server is busy",
};

export const TEXTS = {
  title: "Instagram posts as files",
  links: "Links",
  placeholder: "Paste a link to a post or reel",
  paste: "Paste",
  getPosts: "Get posts",
  get: "Get",
  keepNew: "Don't auto-delete",
  starting: (number) => (number === 1 ? "Getting the post…" : `Getting ${NUMBER.format(number)} posts…`),
  undo: "Undo",
  noClipboard: "Your browser does not let this page read the clipboard. Paste into the field instead.",
  close: "Close",
  open: "Open",

  signInTitle: "Sign in",
  signInHint: "This server requires an API key. Its operator can give you one.",
  key: "API key",
  stay: "Stay signed in for 30 days",
  signIn: "Sign in",
  signOut: "Sign out",
  wrongKey: "This key is wrong. Check it and try again.",

  settings: "Settings and help",
  loginTitle: "Instagram login",
  loginFix: "Fix the login",
  loginNeedsKey:
    "Public posts can be downloaded without a login. To download private posts, set API_KEY, restart the server, sign in here, and add an Instagram login.",
  loginCookies: "Cookies from instagram.com",
  loginHint:
    "The contents of a cookies.txt file, the JSON that an extension exports, a Cookie header, or the value of the sessionid cookie. Anyone who has the cookies can use the account, so this server never shows them.",
  loginUse: "Use these cookies",
  loginForget: "Remove the login",
  loginStates: {
    none: () => "Logged out: only public posts can be downloaded. To get others, paste the cookies of a browser that is logged in to Instagram.",
    active: (who, when) => `Logged in${who} since ${when}.`,
    expired: (who, when) =>
      `Instagram ended the session${who} on ${when}. Public posts can still be downloaded. To get others, paste new cookies.`,
    challenged: (who, when) =>
      `Logged in${who}, but on ${when}, Instagram asked you to confirm the account. Do that in a browser, then paste new cookies.`,
  },
  as: (username) => ` as ${username}`,

  running: (percent) => (percent ? `Downloading, ${percent}%` : "Downloading"),
  runningTitle: "Downloads",
  downloadOf: (name) => `Download of ${name}`,
  nameOfLink,
  nameOf: (shortcode) => `Post ${shortcode}`,
  group: (names) => (names.length === 1 ? names[0] : `${names[0]} and ${NUMBER.format(names.length - 1)} more`),
  unsent: ({ reason, dueAt }) => {
    if (!reason) {
      return "To be sent";
    }
    return `To be sent at ${clock(dueAt)}: ${LIMITS[reason]}`;
  },
  next: (posts) => {
    const waiting = posts.filter((post) => post.state === "waiting");
    const times = waiting.map((post) => post.next_try_at).filter((at) => at && new Date(at) > new Date()).sort();
    if (!waiting.length) {
      return "Queued";
    }
    return times.length ? `Waiting until ${clock(times[0])} because a limit was reached` : "Waiting for its turn";
  },
  cancelled: "Cancelled",
  summary: ({ unsent, done, all, waiting, failed }) =>
    [
      unsent ? `${NUMBER.format(unsent)} to be sent` : "",
      all ? `${NUMBER.format(done)} of ${NUMBER.format(all)} done` : "",
      waiting ? `${NUMBER.format(waiting)} waiting` : "",
      failed ? `${NUMBER.format(failed)} failed` : "",
    ].filter(Boolean).join(" · "),
  retry: "Retry",
  logIn: "Add a login",
  retryAll: "Retry all",
  cancel: "Cancel",
  cancelAll: "Cancel all",
  clear: "Clear finished",
  moreLines: (number) => `Show ${NUMBER.format(number)} more`,
  fewerLines: "Show fewer",
  ready: (number) => (number === 1 ? "The post is ready." : `${NUMBER.format(number)} posts are ready.`),
  failedOf: (failed, all, reason) =>
    reason || `${NUMBER.format(failed)} of ${plural(all, "post")} failed. The list of downloads shows why.`,
  copied: "Copied",

  stored: "Stored posts",
  storage: ({ posts, bytes, free_bytes: free, max_age_days: days }) =>
    [
      posts ? `${plural(posts, "post")}, ${size(bytes)}` : "",
      `${size(free)} free`,
      days ? `removed after ${plural(days, "day")} unless kept` : "kept until deleted",
    ].filter(Boolean).join(" · "),
  reconnecting: "Reconnecting…",
  search: "Search, or paste a link",
  sort: "Order",
  sortStored: "Last stored",
  sortTaken: "Last published",
  type: "Type",
  anyType: "All types",
  videos: "Videos",
  pictures: "Pictures",
  carousels: "Carousels",
  owner: "Person",
  kept: "Kept",
  clearFilters: "Clear filters",
  newPosts: "New posts",
  firstStepTitle: "Nothing here yet",
  firstStep: "In Instagram, open a post, tap Share, then Copy link. Paste the link above, and the post appears here.",
  nothing: "No posts match.",
  tile: ({ shortcode, owner, video, slides, caption, kept }) => {
    const what = slides > 1 ? `${slides} slides` : NAMES[video ? "video" : "image"];
    return `${what}${owner ? ` by ${owner}` : ""}, ${caption || shortcode}${kept ? ", kept" : ""}`;
  },
  select: ({ shortcode, owner }) => `Select ${owner ? `${owner}, ` : ""}${shortcode}`,
  selected: (number) => `${NUMBER.format(number)} selected`,
  selection: "Selected posts",
  clearSelection: "Clear the selection",
  saveArchive: "ZIP",
  archives: (number) => (number === 1 ? "Downloading the archive…" : `Downloading ${number} archives…`),
  deleted: (number) => `${plural(number, "post")} deleted`,
  notDeleted: (number) => `${plural(number, "post")} could not be deleted. Try again later.`,
  keptMany: (number, kept) => (kept ? `${plural(number, "post")} kept` : `${plural(number, "post")} no longer kept`),
  notKept: (number) => `${plural(number, "post")} could not be changed. Try again later.`,

  previous: "Previous",
  nextOne: "Next",
  count: (number, all) => `${number} / ${all}`,
  save: "Save",
  saveAll: "Save all as ZIP",
  more: "More",
  copyLink: "Copy link",
  copyCaption: "Copy caption",
  fetchAgain: "Fetch again",
  fetching: "Fetching the post again…",
  fetched: "Fetched again",
  keep: "Keep",
  release: "Don't keep",
  remove: "Delete",
  byOwner: "All posts by this person",
  onInstagram: "Open on Instagram",
  slides: "Slides",
  stays: ({ kept, expires_at: expires }) => {
    if (kept) {
      return "Kept: never removed automatically";
    }
    return expires ? `Removed on ${DAY.format(new Date(expires))} unless kept` : "";
  },
  item: (type, number, all, owner) => `${NAMES[type]} ${number} of ${all}${owner ? `, by ${owner}` : ""}`,
  file: ({ type, width, height, size: bytes, duration }) =>
    [NAMES[type], duration ? length(duration) : "", width && height ? `${width} × ${height}` : "", size(bytes)]
      .filter(Boolean).join(" · "),
  facts: {
    taken: "Published",
    stored: "Stored",
    reactions: "Reactions",
    place: "Place",
    coauthors: "With",
    music: "Music",
    missing: "Missing slides",
  },
  reactions: ({ likes, comments, views }) =>
    [
      likes === null ? "" : plural(likes, "like"),
      comments === null ? "" : plural(comments, "comment"),
      views === null ? "" : plural(views, "view"),
    ].filter(Boolean).join(" · "),
  music: ({ title, artist }) => [title, artist].filter(Boolean).join(", "),
  moment,

  help: "Download from other apps and pages",
  helpAndroid:
    "Android: choose Add to home screen in the browser's menu. Every app's share sheet then offers this server. This needs https.",
  helpIOS:
    "iPhone: create a shortcut that receives URLs from the share sheet, with three actions: URL Encode, for the shortcut's input; Get Contents of URL, for the address below followed by the encoded text; and Save to Photo Album. If this server has a key, add the header X-API-Key.",
  helpIOSAddress: "Address for the shortcut",
  helpBookmarklet: "Other browsers: drag this link to your bookmarks, and click it on a post's page.",
  bookmarklet: "Get this post",
  helpKeys:
    "To select several posts, press and hold one, then tap others. With a mouse and keyboard, Shift+click selects a range, Ctrl+A selects all posts, and Delete deletes the selected ones. In an open post, the arrow keys show the next or previous slide or post, and Esc closes the post.",
  api: "The API",

  advice: {
    unreachable: () => "The server does not answer. Check that it is running, then try again.",
    unauthorized: () => "The API key is missing or wrong. Sign in again.",
    invalid_url: () => "This is not a link to an Instagram post. Copy the link from the post's share menu.",
    unsupported_link: ({ message }) => `${message}.`,
    login_required: ({ message }) => `${message}. Add an Instagram login in the settings of this page.`,
    challenge_required: ({ message }) => `${message}.`,
    post_not_found: () => "This post does not exist or was removed. Check the link.",
    not_stored: () => "This post is no longer stored. To get it again, paste its link.",
    media_folder_gone: () => "The media folder is missing. Check that its disk is connected.",
    media_too_large: ({ message }) => `${message}.`,
    body_too_large: () => "Too many links at once. Send fewer.",
    too_many_requests: (_, later) => `You have reached this server's request limit: ${later}.`,
    instagram_rate_limited: (_, later) => `Instagram asks this server to wait: ${later}.`,
    cooling_down: (_, later) => `Instagram asks this server to wait: ${later}.`,
    pace_exceeded: (_, later) => `This server slows its requests to Instagram to avoid being blocked: ${later}.`,
    instagram_changed: ({ message }) => `${message}. Try again; if that does not help, this server may need an update.`,
  },
  otherAdvice: ({ status, message }, later) => (status === 400 ? `${message}.` : `${message}: ${later}.`),
  later: (duration) => (duration ? `try again in ${duration}` : "try again later"),
  seconds: (number) => `${number} s`,
  minutes: (number) => `${number} min`,
  hours: (number) => `${number} h`,
};

const ATTRIBUTES = { label: "aria-label", placeholder: "placeholder" };

/** Insert the texts that are named in the data attributes of *root* and its templates. */
export function fill(root) {
  for (const place of root.querySelectorAll("[data-text]")) {
    place.textContent = TEXTS[place.dataset.text];
  }
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    for (const place of root.querySelectorAll(`[data-${name}]`)) {
      place.setAttribute(attribute, TEXTS[place.dataset[name]]);
      if (name === "label" && place.matches("button, summary")) {
        place.title = TEXTS[place.dataset[name]];
      }
    }
  }
  for (const template of root.querySelectorAll("template")) {
    fill(template.content);
  }
}
