"""The session of an Instagram account."""
