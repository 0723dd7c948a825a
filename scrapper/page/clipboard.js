/** The clipboard exists only on https and localhost; elsewhere the old way still works. */

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
  // While a dialog is open, nothing outside of it can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
