/** Deletion with an undo: nothing is deleted before the time for an undo is over, or after the page was left. */

import { guarded } from "./advice.js";
import { bulk } from "./bulk.js";
import { drop, hide, unhide } from "./gallery.js";
import { TEXTS } from "./texts.js";
import { toast } from "./toast.js";

const SECONDS = 8;

const pending = new Set();

/** Delete posts, unless that is undone in time. */
export function remove(shortcodes) {
  hide(shortcodes);
  const undo = () => {
    pending.delete(leave);
    unhide(shortcodes);
  };
  const takeAway = toast(TEXTS.deleted(shortcodes.length), {
    action: TEXTS.undo,
    act: undo,
    ended: () => {
      pending.delete(leave);
      perform(shortcodes);
    },
    seconds: SECONDS,
  });
  const leave = () => {
    takeAway();
    undo();
  };
  pending.add(leave);
}

async function perform(shortcodes) {
  let failed = shortcodes;
  await guarded(async () => {
    failed = await bulk(shortcodes, "delete");
    drop(shortcodes.filter((shortcode) => !failed.includes(shortcode)));
    if (failed.length) {
      toast(TEXTS.notDeleted(failed.length), { bad: true });
    }
  });
  unhide(failed);
}

// A page that the browser restores from memory continues where it was left.
addEventListener("pagehide", () => pending.forEach((leave) => leave()));
