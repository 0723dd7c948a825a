"""One Instagram post, by URL, as a file: the service behind ``POST /scrape``."""
