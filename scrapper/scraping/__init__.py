"""One download at a time for each post: the library first, Instagram second."""
