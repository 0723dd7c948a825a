"""Builds the image with this machine's container engine, and tests it as people use it."""
