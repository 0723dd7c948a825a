"""Downloads a post's files from Instagram's CDN."""
