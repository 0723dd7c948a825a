/**
 * Deletion that can be undone: the posts are deleted when the undo period ends, unless the visitor has
 * left the page by then.
 */

import { guarded } from "./advice.js";
import { bulk } from "./bulk.js";
import { drop, hide, unhide } from "./gallery.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const UNDO_SECONDS = 8;

const pending = new Set();

/** Delete posts, unless the visitor undoes the deletion in time. */
export function remove(shortcodes) {
  hide(shortcodes);
  const undo = () => {
    pending.delete(cancel);
    unhide(shortcodes);
  };
  const dismiss = toast(TEXTS.deleted(shortcodes.length), {
    action: TEXTS.undo,
    act: undo,
    ended: () => {
      pending.delete(cancel);
      perform(shortcodes);
    },
    seconds: UNDO_SECONDS,
  });
  const cancel = () => {
    dismiss();
    undo();
  };
  pending.add(cancel);
}

async function perform(shortcodes) {
  let failed = shortcodes;
  await guarded(async () => {
    failed = await bulk(shortcodes, "delete");
    drop(shortcodes.filter((shortcode) => !failed.includes(shortcode)));
    if (failed.length) {
      toast(TEXTS.notDeleted(failed.length), { error: true });
    }
  });
  unhide(failed);
}

// If the browser later restores the page from memory, the posts must be visible again.
addEventListener("pagehide", () => pending.forEach((cancel) => cancel()));
