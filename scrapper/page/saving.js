/** Saves files to the visitor's device. */

const MOST_BYTES = 50_000_000;

export function saveFile(path) {
  const link = document.createElement("a");
  link.href = path;
  link.download = "";
  link.click();
}

const isPhone = () => matchMedia("(pointer: coarse)").matches && Boolean(navigator.canShare);

/** Saves one file of a post. On a phone, it uses the share sheet, which can save the file to the photos. */
export class Saving {
  #file = null;
  #stop = new AbortController();

  /** *path* is the URL to download the file from, and *item* is its entry in the post's `media`. */
  constructor(path, item) {
    this.path = path;
    if (isPhone() && item.size <= MOST_BYTES) {
      this.#fetch(item);
    }
  }

  // Browsers allow sharing only right after a tap, so the file must be loaded by then.
  async #fetch(item) {
    try {
      const response = await fetch(item.url, { signal: this.#stop.signal });
      if (!response.ok) {
        return;
      }
      const blob = await response.blob();
      const file = new File([blob], item.url.split("/").pop(), { type: blob.type });
      if (navigator.canShare({ files: [file] })) {
        this.#file = file;
      }
    } catch {
      // The viewer was closed, or the connection broke. save() then downloads the file.
    }
  }

  async save() {
    if (this.#file) {
      try {
        await navigator.share({ files: [this.#file] });
        return;
      } catch (error) {
        if (error.name === "AbortError") {
          return;
        }
      }
    }
    saveFile(this.path);
  }

  close() {
    this.#stop.abort();
    this.#file = null;
  }
}
