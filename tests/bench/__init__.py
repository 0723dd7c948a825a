"""Compares the service with its alternatives, and with the least possible work, in one run."""
