"""Scrapes posts: from the library if possible, else with one download at a time for each post."""
