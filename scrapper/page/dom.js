/** Small helpers around the document. */

export const at = (id) => document.getElementById(id);

export function copyOf(template) {
  return at(template).content.firstElementChild.cloneNode(true);
}
