"""The folder of stored posts."""
