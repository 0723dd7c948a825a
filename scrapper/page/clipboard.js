/** The clipboard is there on https and on localhost alone; elsewhere the old way still works. */

export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not allowed: the other way needs no permission.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  // Outside of an open dialog nothing can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
