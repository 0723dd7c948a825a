/** Turns the URLs, user names and hashtags of a caption into links. */

// Punctuation after a URL and parentheses around it are not part of the URL.
const PARTS = /(https?:\/\/(?:\([^\s<>"()]*\)|[^\s<>".,;:!?()\]]|[.,;:!?\]]+(?=[^\s<>".,;:!?)\]]))+)|(?<![\p{L}\p{N}_&/])(?:@([A-Za-z0-9._]{0,29}[A-Za-z0-9_])|#([\p{L}\p{N}\p{M}_]{1,100}))/gu;

function targetOf([, link, user, tag]) {
  return link ?? `https://www.instagram.com/${user ? `${user}/` : `explore/tags/${encodeURIComponent(tag)}/`}`;
}

/** Convert the text to text nodes and links. */
export function nodesOf(text) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(PARTS)) {
    const link = document.createElement("a");
    link.href = targetOf(found);
    link.target = "_blank";
    link.rel = "noreferrer nofollow";
    link.textContent = found[0];
    nodes.push(text.slice(end, found.index), link);
    end = found.index + found[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
