"""The image: built by whatever engine is there, and used as people use it."""
