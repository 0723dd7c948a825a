/** The links in a text. */

const LINK = /(?:https?:\/\/|(?:www\.)?instagram\.com\/)[^\s,;<>"']+/gi;

/** Each link once. A text without a link is split into words, so that the server can say what is wrong. */
export function linksIn(text) {
  const found = text.match(LINK)?.map((link) => link.replace(/[.!?)\]]+$/, ""));
  const links = found ?? text.split(/[\s,;]+/).filter(Boolean);
  return [...new Set(links.map((link) => (/^(www\.)?instagram\.com\//i.test(link) ? `https://${link}` : link)))];
}

/** Whether a text has a link to Instagram in it. */
export const hasLink = (text) => /instagram\.com\/\S/i.test(text);
