"""Compares the service with its alternatives, and with the least work possible, in one run."""
