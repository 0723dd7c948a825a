"""The image: built by the engine of this machine, and used as people use it."""
