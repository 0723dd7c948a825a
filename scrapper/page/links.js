/** Finds the links in a text. */

const LINK = /(?:https?:\/\/|(?:www\.)?instagram\.com\/)[^\s,;<>"']+/gi;

/**
 * The links in a text, without duplicates. A text without a link is split into words, so that the server
 * reports what is wrong with them.
 */
export function linksIn(text) {
  const found = text.match(LINK)?.map((link) => link.replace(/[.!?)\]]+$/, ""));
  const links = found ?? text.split(/[\s,;]+/).filter(Boolean);
  return [...new Set(links.map((link) => (/^(www\.)?instagram\.com\//i.test(link) ? `https://${link}` : link)))];
}

/** Whether a text contains a link to Instagram. */
export const hasLink = (text) => /instagram\.com\/\S/i.test(text);
