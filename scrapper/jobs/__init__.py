"""Batches of posts, downloaded in the background."""
