/** Everything that the page says, in one place. */

const LOGIN = "The operator of this server can add a login.";
const NAMES = { video: "Video", image: "Picture", audio: "Sound" };
const MANY = new Intl.NumberFormat("en");

const time = (moment) => new Date(moment).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

export const TEXTS = {
  title: "Instagram posts as files",
  intro: "Paste links to posts. This server downloads the posts, and shows until when each of them stays.",
  links: "Links",
  linksHint: "One link or many, separated by spaces, commas or line breaks.",
  key: "API key",
  keyLabel: "Key, if this server asks for one",
  staySignedIn: "Stay signed in for 30 days",
  signOut: "Sign out",
  keepNew: "Keep these posts: never remove them because of their age",
  getPosts: "Get posts",

  loginTitle: "Instagram login",
  loginChange: "Change it",
  loginCookies: "Cookies of instagram.com",
  loginHint:
    "The text of a cookies.txt, what an extension exports as JSON, a Cookie header, or the value of the cookie sessionid. Anyone who has it can use the account, so this server never shows it.",
  loginUse: "Use these cookies",
  loginForget: "Forget the login",
  loginStates: {
    none: () => "Logged out: only public posts can be downloaded.",
    active: (who, when) => `Logged in${who} since ${when}.`,
    expired: (who, when) =>
      `Instagram ended the session${who} on ${when}. Public posts still work; for others, paste new cookies.`,
    challenged: (who, when) =>
      `Logged in${who}, but since ${when} Instagram wants a person to look at the account. Do that in a browser, then paste new cookies.`,
  },
  as: (username) => ` as ${username}`,

  downloads: "Downloads",
  downloadOf: (name) => `Download of ${name}`,
  states: {
    queued: () => "In line",
    waiting: (post) =>
      new Date(post.next_try_at) > new Date() ? `Waiting until ${time(post.next_try_at)}` : "Waiting for its turn",
    running: (post, percent) => (percent ? `Downloading, ${percent} %` : "Downloading"),
    done: () => "Done",
    failed: () => "Failed",
    cancelled: () => "Cancelled",
  },
  summary: (done, all, failed, waiting) =>
    `${done} of ${all} done` + (failed ? `, ${failed} failed` : "") + (waiting ? `, ${waiting} waiting` : ""),
  retry: "Retry",
  retryAll: "Retry all that failed",
  copyLink: "Copy link",
  copied: "Copied",

  stored: "Stored posts",
  search: "Search captions and people",
  onlyKept: "Only kept posts",
  nothingStored: "Nothing is stored yet.",
  nothingFound: "Nothing is found.",
  more: "Show more",
  save: "Save",
  saveNumber: (number) => `Save ${number}`,
  saveSound: "Save sound",
  saveAll: "Save all as ZIP",
  copyCaption: "Copy caption",
  keep: "☆ Keep",
  kept: "★ Kept",
  stays: (moment) => `Stays until ${new Date(moment).toLocaleDateString()}, unless you keep it`,
  remove: "Delete",
  removeQuestion: (shortcode) => `Delete ${shortcode} and its files?`,
  files: (number) => `${number} files`,
  item: (type, number, all, owner) =>
    `${NAMES[type]} ${number} of ${all}${owner ? `, by ${owner}` : ""}`,
  fileTitle: (type, size) => `${type}, ${size}`,
  likes: (number) => `${MANY.format(number)} ${number === 1 ? "like" : "likes"}`,
  coauthors: (names) => `with ${names.join(", ")}`,

  help: "From your phone or another page",
  helpAndroid:
    "Android: choose Add to home screen in the browser's menu. Then every app's share sheet has this server. That needs https.",
  helpIOS:
    "iPhone: make a shortcut that takes URLs from the share sheet. URL Encode its input, Get Contents of URL of the address below followed by the encoded text, then Save to Photo Album. With a key, add the header X-API-Key.",
  helpIOSAddress: "Address for the shortcut",
  helpBookmarklet: "Elsewhere: drag this link to your bookmarks, and press it on a post's page.",
  bookmarklet: "Get this post",
  api: "The API",

  advice: {
    unreachable: () => "The server does not answer: check that it runs, then try again.",
    unauthorized: () => "The API key is missing or wrong: type it in the field above.",
    invalid_url: () => "This is not the link of an Instagram post: copy it from the post's share menu.",
    login_required: ({ message }) => `${message}. ${LOGIN}`,
    challenge_required: ({ message }) => `${message}.`,
    post_not_found: () => "This post does not exist, or was removed: check the link.",
    job_forgotten: () => "The server has forgotten this download: send the link again.",
    body_too_large: () => "These are too many links at once: send fewer.",
    too_many_requests: (_, later) => `This server limits how much you may ask: ${later}.`,
    instagram_rate_limited: (_, later) => `Instagram asks to wait: ${later}.`,
    cooling_down: (_, later) => `Instagram asks to wait: ${later}.`,
    pace_exceeded: (_, later) => `This server asks Instagram slowly, so as not to be blocked: ${later}.`,
    instagram_changed: ({ message }) => `${message}: try again; if that does not help, this server may need an update.`,
  },
  otherAdvice: ({ status, message }, later) => (status === 400 ? `${message}.` : `${message}: ${later}.`),
  later: (duration) => (duration ? `try again in ${duration}` : "try again later"),
  seconds: (number) => `${number} s`,
  minutes: (number) => `${number} min`,
  hours: (number) => `${number} h`,
};

/** Put the texts where the document, or a template of it, names them. */
export function fill(root) {
  for (const place of root.querySelectorAll("[data-text]")) {
    place.textContent = TEXTS[place.dataset.text];
  }
  for (const template of root.querySelectorAll("template")) {
    fill(template.content);
  }
}
