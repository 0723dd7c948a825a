"""Takes posts from the library if possible, or else downloads them, with single flight per post."""
