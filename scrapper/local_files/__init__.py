"""Files that others write: what may be read of them, and when to read again."""
