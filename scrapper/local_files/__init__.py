"""Files that others write: safe reading, and noticing changes."""
