"""Files that the operator provides: reading them safely, and noticing changes."""
